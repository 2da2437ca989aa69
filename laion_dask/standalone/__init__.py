"""Run extract, download, score, translate and caption on files that a user names, without a project.

- on_files: What they have in common: one run at a time, the parts, their counts, and replacing an earlier result.
- extract: Extract pairs from WATs into a folder.
- download: Download tables of URLs into a folder of shards.
- score: Score the tars of a folder that other tools made.
- tables: Find the tables of texts that a user names, and read them piece by piece with all of their columns.
- translate: Translate the texts of tables that a user names, without a project: the tables again, with columns of
  English.
- caption: Caption the tars of a folder that other tools made, without a project.
"""
