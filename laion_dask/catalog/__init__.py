"""The stage catalog: every pair in PostgreSQL, deduplicated, cleared of removals, spread over hosts.

- connections: Connect to the catalog's PostgreSQL; tell each error as what it is, with the remedy and never with a
  password.
- copy_binary: Write Arrow tables as blocks of PostgreSQL's binary COPY format, for `copy … from stdin (format
  binary)`.
- database: Open the catalog's PostgreSQL and its tables; write one bucket in one transaction.
- part: The pairs of one bucket in, its part of the work list out: unique, cleared of removals, hosts spaced apart.
- postgres: Start and stop the embedded PostgreSQL: one server for a data folder, which only its own user can reach.
- postgres_account: Find the account, the programs and a short folder for the embedded PostgreSQL to run with.
- publish: Check that buckets fit into a worker's memory, and publish the shards of all buckets as one work list.
- reach: Check at the start of a stage that every worker reaches PostgreSQL, and that it has a connection for each task.
- removed_pairs: Find the pairs of a bucket that a removal names: SQL over the table of removals, and a look-up of
  addresses.
"""
