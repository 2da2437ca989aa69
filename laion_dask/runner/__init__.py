"""Parts on a cluster: how they are handed out, watched, resumed and checked. The only package with Dask.

- absolute: Make the paths in a task's arguments absolute: a worker may have another working directory.
- cluster: Open a Dask client: of local processes, of one process for each GPU, or of a running scheduler.
- code_digest: Digest code: that of one stage, for the keys of its parts; all of it, to compare workers.
- interrupts: Ends a run on Ctrl-C, SIGTERM and SIGHUP in order: what was begun is ended first, and no traceback is
  printed.
- part: The unit of work of a stage, and what it leaves when it is finished.
- part_files: The files of a finished part: their sizes and digests are written last, with the counts, and checked
  before use.
- parts: Run a function for each part that is not finished: skip, resume, check for damage, publish.
- progress: Show how far a stage is, in one line: how much, how fast, how long, which part runs longest.
- stage: Run one stage: open a cluster, run its parts, check that counts add up, publish its out, write its metrics.
- tasks: Parts and a function in, each part's counts or failure out: how parts are handed to the cluster, and what
  runs there.
- worker_checks: A worker's checks before it works: that it sees the driver's folders, runs the driver's code and has
  its files.
"""
