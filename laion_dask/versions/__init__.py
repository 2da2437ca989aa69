"""Versions beside each other: checked out, compared, identified, and the history of a pair.

- checkout: The name of a version in, its release and verdicts out: a folder, a Git revision or a DVC experiment.
- diff: Two releases in, what changed between them out: pairs added, removed by reason, moved between splits, scores
  moved.
- histories: The files of a version in, its rows in the catalog's history out: what became of each pair, and where it
  was found.
- history_files: The name of a version in, its tables out of DVC's cache: those of the stages that the history reads,
  no pictures.
- identity: The tracked files of a version in, what identifies it out: its digest, where it is from, and the version
  before it.
- linkrot: A download and an earlier one in, a report of link rot out: what became of the pairs, by year and by host.
- why: A URL, a uid or an image in, what is known of its pairs out: where found, what each stage decided, in which
  versions.
"""
