"""Archives of downloads: record exchanges as WARC files, and answer from WARC files.

- archived: Read one exchange of an index from its WARC file, or copy its records into another archive.
- reader: Answer the requests of a download from the recorded exchanges of an archive.
- replay: Serve WARC files: a loopback web server that answers for every recorded host.
- shard_archive: Open the archive of a shard: one that records the web, one that answers in its place, or none.
- warc_exchange: Write exchanges as WARC records, each a gzip member, and read them back with every field.
- writer: Record what a download requests and gets: `<shard>.warc.gz`, and its index `<shard>.cdxj`.
"""
