"""Options in the spelling of programs that do the same.

- img2dataset: Read img2dataset's options of `laion-dask download`, and say what they mean here or why they are refused.
"""
