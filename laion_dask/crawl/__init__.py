"""The stage crawl: choose the WAT files to read, and estimate the cost.

- estimate: Estimate pairs, bytes and core hours of a number of WATs from measured values and sizes of a sample.
- listing: List the WATs to read: local files, addresses, or a sample of Common Crawl's crawls.
- part: Write one file of the demo crawl, or the list of WATs of another source; return its counts.
"""
