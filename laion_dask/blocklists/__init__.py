"""What is kept out: the ledger of removals and the lists of known content.

- known_content: Look up bodies, pictures and addresses in lists of known content, and blank the rows that are on one.
- known_index: Search the sorted arrays that a list of known content is compiled to: digests exactly, PDQ hashes by
  distance.
- known_lists: Compile a list of known content (lines, CSV, .gz of both) to sorted binary arrays that workers map into
  memory.
- removal_ledger: Read and check removals.csv; addresses and hosts are written as the stage extract writes them.
"""
