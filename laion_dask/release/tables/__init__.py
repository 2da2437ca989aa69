"""The tables of a release: which pairs stand in which, and how parts of a bounded size write their files.

- files: Write the Parquet files of the tables: equal numbers of rows, full row groups.
- kept: Read the kept pairs of shards with their scores and new texts, sorted by split and uid.
- kinds: Say which pairs stand in which tables: in all, in a subset, or in a layout of pairs with a new text.
- places: Find where the files of each part begin and end in the sorted pairs, from the counts of ranges of uids.
- runs: Write the kept pairs of some shards as a run sorted by uid, and merge one range of uids out of all runs.
- steps: Make a release in parts: one for each split where pairs are few, else runs of shards, then files.
"""
