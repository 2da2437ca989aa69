"""Files on disk: shards, embeddings, joined tables, hand-written lists, and sheets for spreadsheets.

- attempts: Join images, scores and verdicts by uid: shard by shard as Arrow tables, or all shards in one SQL query.
- duckdb_connection: Open an in-memory DuckDB connection with a memory limit; larger data spills to temporary files.
- durations: Say how long something takes, for people: in seconds, minutes or hours.
- embeddings: Write and read embeddings as Zarr arrays: one Zarr shard per shard of images, so that writers never share
  one.
- files: Digest values and files, and hard-link files.
- numbered: Name the tables of shards by their numbers, and find them in the order of these.
- objects: Find objects of a bucket by name or glob, with size and ETag: on S3, and on other file systems that fsspec
  can list.
- packaged: Find the data files of the package: models, templates, tables, defaults.
- printable: Escape characters in untrusted text that could control a terminal.
- shards: Write and read shards in img2dataset's layout: a tar of pictures, a Parquet table and counts.
- sheets: Write CSV tables without cells that a spreadsheet would run as a formula.
- strict_rows: Read hand-written lists, CSV or one value per line, strictly and with line numbers.
- templates: Open the Jinja templates of a package, with the same options for card, report and audit page.
- sync: Flush files and folders to the disk, so that a power cut loses nothing that was said to be finished.
- uids: Convert hex digits of uids and hashes in Arrow columns to bytes and back, and find the rows of a table by uid.
- work_folder: Where unfinished work lies: parts, the embedded database, files of the cluster.
"""
