"""Removal requests, and the purge that deletes what is stored of removed pairs and proves it.

- traces: Searching files of any format, at any depth, for traces of removed pairs.
- purge: Delete what a project stores of removed pairs, and keep a public record of what was deleted.
- purge_dvc: List and delete objects of a DVC repository's cache and remotes.
- purge_gather: Collect the values that identify removed pairs, without those that a remaining pair has too.
- purge_git: Read all objects of Git repositories, whether committed, staged or stashed.
- purge_places: List every file that a purge has to search, and those that it skips with the reason.
- purge_project: One project as a purge sees it: its folders, the tables of its versions, and which files are only
  copies.
- purge_record: The record of a purge (purges.json): its plan, written first, and the proof afterwards.
- purge_run: Run a purge: preview it, record it, delete, and search every file again.
- purge_scan: Search every file of a project for traces of removed pairs, and describe the search as proof.
- purge_versions: Find the tables of every version that the Git history names and DVC's cache still has.
- removal_requests: Check a removal request and append it to removals.csv: nothing twice, no public suffix, no
  personal data.
"""
