"""Versions beside each other: checked out, compared, identified, and the history of a pair.

- checkout: Open the release and the verdicts of a version: a folder, a Git revision or a DVC experiment.
- diff: Compare two releases: pairs added, removed by reason, moved between splits; scores that moved.
- histories: Load a version into the catalog's history: what became of each pair, and where it was found.
- history_files: Take the tables that the history reads out of DVC's cache; pictures are left there.
- identity: What identifies a version: its digest, its recipe, and the version before it.
- linkrot: Report link rot: what became of the pairs of an earlier download, by year and by host.
- why: Answer what is known of a URL, a uid or an image: where it was found, what each stage decided, in which
  versions.
"""
