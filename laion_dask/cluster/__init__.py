"""Open the Dask cluster that the machine's settings name: which one for a stage, how its processes start and end.

- fork_server: Fork the workers of a local cluster from one process that has imported the code; how that process
  starts and ends.
- interrupts: End a run cleanly on Ctrl-C, SIGTERM and SIGHUP: stop its processes first, print no traceback.
- kinds: Open a Dask client: of local processes, GPUs, a running scheduler, or any class that starts a cluster.
- local: Start and end a cluster of this machine: one process for each core, or for each GPU.
- settings: Read the machine's settings of the cluster, for each stage; refuse what is not known, with the remedy.
"""
