"""Check out, compare and identify versions, and record the history of each pair.

- against_lock: Compare the outs of a project with dvc.lock, stage by stage, and say why the first one differs.
- checkout: Open the release and the verdicts of a version: a folder, a Git revision or a DVC experiment.
- diff: Compare two releases: pairs added, removed by reason, moved between splits; scores that moved.
- histories: Load a version into the catalog's history: the verdict on each pair, and where it was found.
- history_files: Copy the tables that the history reads from DVC's cache, without pictures.
- identity: What identifies a version: its digest, its recipe, and the version before it.
- linkrot: Report link rot: what an earlier download's addresses return now, by year and by host.
- machines: What a version was built with: processor, GPUs, Python, packages; and which machines have reproduced it.
- outs: Digests of files and folders as DVC computes them, without DVC and without its cache.
- waves: Count by crawl what a newer version brings: new pairs, repeated pairs, newly dead links.
- why: Explain a URL, a uid or an image: where it was found, what each stage decided, in which versions.
"""
