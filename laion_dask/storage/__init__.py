"""How data lies on disk: shards, embeddings, joined tables, and the lists and sheets that people write and open.

- attempts: Stage folders in, one joined table for each shard out: every attempt with its scores and its verdict.
- duckdb_connection: Nothing in, a DuckDB connection out that spills to disk: memory stays bounded whatever the number
  of rows.
- embeddings: Embeddings in, Zarr arrays out: one Zarr shard for each shard of images, so that no two writers share
  one.
- files: Digests of values and files, and files with a second name.
- packaged: Find the files that the package carries beside its code: models, templates, tables, defaults.
- printable: Make a text out of the web or out of a file harmless for a terminal.
- shards: Rows and their pictures in, one shard out: tar, Parquet table and counts in img2dataset's layout; and back
  again.
- sheets: Write the CSV tables that people open: with no cell that a spreadsheet would run as a formula.
- strict_rows: Read the lists that people write by hand: CSV, or one value a line; strictly, and with line numbers.
- templates: Open the Jinja templates that a package carries, with the same rules for card, report and audit page.
- uids: Convert hex digits of uids and hashes to bytes, and find the rows of a table by uid.
"""
