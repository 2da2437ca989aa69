"""Commands that show how steps were run.

- against_lock: `laion-dask verify --against-lock`: print whether the outs of each stage are those of dvc.lock.
- cluster: `laion-dask cluster`: show which cluster each stage gets, open it, try it with tiny parts, and end it.
- mlflow_runs: `laion-dask mlflow`: log the current version again; `laion-dask mlflow ui`: open the runs in a browser.
- state: Say whether the version whose counts are in metrics/ is built in this folder, and what has changed since.
- trace: Print what each stage of this version took, and its slowest parts.
"""
