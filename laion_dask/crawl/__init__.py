"""The stage crawl: which WAT files are read, and what that will cost.

- estimate: A number of WATs and the sizes of some in, what they would give and cost out: pairs, bytes, core hours.
- listing: Crawl parameters or places in, the list of WATs to read out: local files, addresses, a sample of Common
  Crawl.
- part: One file of the crawl, or the list of another source in; its files and counts out.
"""
