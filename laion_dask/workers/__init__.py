"""Which workers may work: the handshake, the pool of those that have passed it, and the checks before each task.

- absolute: Make the paths in a task's arguments absolute: a worker may have another working directory.
- checks: Checks on a worker before a task: it sees the driver's folders, runs its code and has its files.
- code_digest: Digest code: that of one stage, for the keys of its parts; all of it, to compare workers.
- gpus: Give each worker process of a host a GPU of its own, whoever started it.
- handshake: The handshake of a worker: a Dask plugin that compares its code, folders and settings with the driver's.
- patience: What a driver says while it waits for workers, and when it stops waiting.
- pool: The workers that may work: those that have passed the handshake; wait for them, watch them come and go.
"""
