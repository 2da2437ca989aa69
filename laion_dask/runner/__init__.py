"""Run parts on a Dask cluster: submit, monitor, resume and check them. The only package that uses Dask.

- absolute: Make the paths in a task's arguments absolute: a worker may have another working directory.
- cluster: Open a Dask client: of local processes, of one process for each GPU, or of a running scheduler.
- code_digest: Digest code: that of one stage, for the keys of its parts; all of it, to compare workers.
- fork_server: Fork the workers of a local cluster from one process that has imported the code; how that process
  starts and ends.
- interrupts: End a run cleanly on Ctrl-C, SIGTERM and SIGHUP: stop its processes first, print no traceback.
- part: The unit of work of a stage, and its result.
- part_files: The files of a finished part: their sizes and digests are written last, with the counts, and checked
  before use.
- parts: Run a function for each part that is not finished: skip, resume, check for damage, publish.
- progress: Show a stage's progress in one line: parts done, rate, time left, and the part that runs longest.
- stage: Run one stage: open a cluster, run its parts, check that counts add up, publish its out, write its metrics.
- tasks: Submit parts to the cluster as tasks, run them on the workers, and return each part's counts or failure.
- worker_checks: Checks on a worker before a task: it sees the driver's folders, runs its code and has its files.
"""
