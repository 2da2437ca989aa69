"""Run parts on a Dask cluster: submit, monitor, resume and check them.

- ahead: Run parts of the next stage while this one runs: each as soon as the part that it needs is final.
- attempts: Write one part: under a temporary name, with a note that a worker leaves behind when it dies in the part.
- part: The unit of work of a stage, and its result.
- part_files: The files of a finished part: their sizes and digests are written last, with the counts, and checked
  before use.
- parts: Run a function for each part that is not finished: skip, resume, check for damage, publish.
- performance: Write Dask's own performance report of a stage: every task by worker, the scheduler's load, transfers.
- probe: Try a cluster: a tiny part for each worker, and what the driver reads of it afterwards.
- progress: Show a stage's progress in one line: parts done, rate, time left, and the part that runs longest.
- progress_line: Compose a progress line that fits the terminal: shorten and drop its fields by rank; times in minutes
  and hours.
- stage: Run one stage: open a cluster, run its parts, check that counts add up, publish its out, write its metrics.
- takeover: Find rows of earlier parts that a new part can take over instead of making them: by the uid of the pair.
- tasks: Submit parts to the cluster as tasks, run them on the workers, and return each part's counts or failure.
- trace: Measure a part on its worker: when it ran, its processor time, its peak memory, and the bytes that it wrote.
- trace_file: Record what each part of a stage took, in a Parquet file beside the version: `data/trace/<stage>.parquet`.
"""
