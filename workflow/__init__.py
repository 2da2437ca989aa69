"""One Dask graph for each stage; graphs wire, functions decide."""
