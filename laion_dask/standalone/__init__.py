"""Run extract, download and score on files that a user names, without a project.

- on_files: What the three have in common: one run at a time, the parts, their counts, and replacing an earlier result.
- extract: Extract pairs from WATs into a folder.
- download: Download tables of URLs into a folder of shards.
- score: Score the tars of a folder that other tools made.
"""
