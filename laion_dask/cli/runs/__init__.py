"""Commands that show how steps were run.

- cluster: `laion-dask cluster`: show which cluster each stage gets, open it, try it with tiny parts, and end it.
- trace: Print what each stage of this version took, and its slowest parts.
"""
