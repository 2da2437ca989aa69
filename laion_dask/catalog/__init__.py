"""The stage catalog: every pair in PostgreSQL, deduplicated, cleared of removals, spread over hosts.

- connections: Connect to the catalog's PostgreSQL; tell each error as what it is, with the remedy and never with a
  password.
- copy_binary: Write Arrow tables as blocks of PostgreSQL's binary COPY format, for `copy … from stdin (format
  binary)`.
- database: Open the catalog's PostgreSQL and its tables; write one bucket in one transaction.
- merge_plan: Plan which files of pairs are merged before buckets are read: groups of WATs of one crawl, and a part for
  each.
- merged_pairs: Merge the pairs of many WATs into one file with a batch for each bucket, so that a bucket's task opens
  few files.
- pair_files: Read the pairs of one bucket out of files that the stage extract has sorted by uid.
- pair_manifest: Write and read the manifest of a crawl's pairs: the files that every bucket reads, listed once for all
  tasks.
- part: The pairs of one bucket and wave in, their part of the work list out: unique, shuffled, cleared of removals.
- postgres: Start and stop the embedded PostgreSQL: one server for a data folder, which only its own user can reach.
- postgres_account: Find the account, the programs and a short folder for the embedded PostgreSQL to run with.
- publish: Check that buckets fit into a worker's memory, and publish the shards of all waves and buckets as one work
  list.
- reach: Check at the start of a stage that every worker reaches PostgreSQL, and that it has a connection for each task.
- removed_pairs: Find the pairs of a bucket that a removal names: SQL over the table of removals, and a look-up of
  addresses.
"""
