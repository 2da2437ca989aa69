"""Removal requests, and the purge that deletes what is stored of removed pairs and proves it.

- traces: Searching files of any format, at any depth, for traces of removed pairs.
- purge: A project with a ledger of removals in, the same without what was stored of the removed pairs out, and the
  record.
- purge_dvc: A DVC repository in, the objects of its cache and remotes out, and those that are not wanted deleted.
- purge_gather: Tables of versions and the ledger in, what its pairs are known by out: values that no pair that stays
  has too.
- purge_git: The objects of Git repositories in, what each holds out: whatever was committed, staged or stashed once.
- purge_places: A project in, every file that a purge looks into out, and what it leaves alone, with the reason.
- purge_project: One project as a purge sees it: its folders, the tables of its versions, and which of its files are
  mere copies.
- purge_record: What a purge is about to do in, told before it is done, and its proof after: purges.json, and the
  traces meanwhile.
- purge_scan: Every file that a purge looks into is read: which hold a trace, what was looked into, and what that
  proves.
- purge_versions: A project under DVC in, the tables of every version that its Git history names out: those that the
  cache still has.
- removal_requests: A removal request in, checked lines at the end of removals.csv out: nothing twice, no public
  suffix, no person.
"""
