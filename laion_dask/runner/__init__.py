"""Parts on a cluster: how they are handed out, watched, resumed and checked. The only package with Dask.

- absolute: Arguments of a task in, the same with absolute paths out: a worker elsewhere has another working
  directory.
- cluster: Dask configuration in, a client out: local processes, one process a GPU, or the address of a running
  scheduler.
- code_digest: Digests of the code that makes parts: of one stage, for the keys of its parts; of all, for workers
  elsewhere.
- interrupts: Ends a run on Ctrl-C, SIGTERM and SIGHUP in order: what was begun is ended first, and no traceback is
  printed.
- part: The unit of work of a stage, and what it leaves when it is finished.
- part_files: The files of a finished part: their sizes and digests are written last, with the counts, and checked
  before use.
- parts: A list of parts and a function in, one folder of files and counts for each part out: skipping, resuming,
  publishing.
- progress: Parts begun and finished in, one line for the person who waits out: how much, how fast, how long, what is
  oldest.
- stage: Run one stage: open a cluster, run its parts, check that counts add up, publish its out, write its metrics.
- tasks: Parts and a function in, each part's counts or failure out: how parts are handed to the cluster, and what
  runs there.
- worker_checks: A worker's checks before it works: that it sees the driver's folders, runs the driver's code and has
  its files.
"""
