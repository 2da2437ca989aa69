"""How data lies on disk: shards, embeddings, joined tables, and the lists and sheets that people write and open.

- attempts: Join images, scores and verdicts by uid: shard by shard as Arrow tables, or all shards in one SQL query.
- duckdb_connection: Open an in-memory DuckDB connection with a memory limit; what is larger spills to temporary
  files.
- embeddings: Write and read embeddings as Zarr arrays: one Zarr shard for each shard of images, so no two writers
  share one.
- files: Digests of values and files, and files with a second name.
- packaged: Find the files that the package carries beside its code: models, templates, tables, defaults.
- printable: Make a text out of the web or out of a file harmless for a terminal.
- shards: Write and read shards in img2dataset's layout: a tar of pictures, a Parquet table and counts.
- sheets: Write the CSV tables that people open: with no cell that a spreadsheet would run as a formula.
- strict_rows: Read the lists that people write by hand: CSV, or one value a line; strictly, and with line numbers.
- templates: Open the Jinja templates that a package carries, with the same rules for the card, the report and the
  audit page.
- uids: Convert hex digits of uids and hashes in Arrow columns to bytes, and find the rows of a table by uid.
"""
