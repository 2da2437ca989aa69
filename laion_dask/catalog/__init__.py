"""The stage catalog: every pair in PostgreSQL, deduplicated, cleared of removals, spread over hosts.

- copy_binary: Tables in, blocks of PostgreSQL's binary COPY format out: what `copy … from stdin (format binary)`
  takes.
- database: A DSN or a folder in, a PostgreSQL with the catalog's tables out: server, tables, one bucket's
  transaction, errors.
- part: The pairs of one bucket in, its part of the work list out: unique, cleared of removals, hosts spaced apart.
- postgres: Runs the PostgreSQL that a package carries: one server for a data folder, open to the user who started it
  alone.
- postgres_account: Finds the account, the programs and the short folder that the embedded PostgreSQL runs with.
- publish: Check that buckets fit into a worker's memory, and publish the shards of all buckets as one work list.
- removed_pairs: Find the pairs of a bucket that a removal names: the SQL of the table of removals, and the look-up of
  addresses.
"""
