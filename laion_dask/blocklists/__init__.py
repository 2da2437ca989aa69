"""Content to exclude: the removal ledger and the lists of known content.

- known_content: Look up bodies, pictures and addresses in lists of known content, and blank the rows that are on one.
- known_index: Search the compiled arrays of a list of known content: digests exactly, PDQ hashes by distance.
- known_lists: Compile a list of known content (lines, CSV, .gz of both) to sorted binary arrays, which workers
  memory-map.
- removal_ledger: Read and check removals.csv; addresses and hosts are normalized as in the stage extract.
"""
