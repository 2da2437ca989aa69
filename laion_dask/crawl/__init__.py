"""The stage crawl: which WAT files are read, and what that will cost.

- estimate: Estimate pairs, bytes and core hours of a number of WATs from measured values and sizes of a sample.
- listing: List the WATs to read: local files, addresses, or a sample of Common Crawl's crawls.
- part: One file of the crawl, or the list of another source in; its files and counts out.
"""
