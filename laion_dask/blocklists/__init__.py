"""What is kept out: the ledger of removals and the lists of known content.

- known_content: Bodies, pictures and addresses in, the lists of known content that have them out; and what is left of
  such a row.
- known_index: Values in, whether a list of known content has each out: the search in the arrays that `lists` has
  made.
- known_lists: A list of hashes in (lines, CSV, .gz of both), an index beside the work folder out: sorted binary
  arrays, for mmap.
- removal_ledger: removals.csv in, checked removals out: what is taken out, written as extraction writes URLs and
  hosts.
"""
