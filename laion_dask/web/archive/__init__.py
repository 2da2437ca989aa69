"""Downloads kept as WARC files, and downloads answered out of WARC files.

- archived: Read one exchange of an index out of its WARC file, or copy its records as they are written into another
  archive.
- reader: Answer the requests of a download from the recorded exchanges of an archive.
- replay: WARC files in, a loopback web server out that answers for every host as the archive recorded it.
- shard_archive: Open the archive of a shard: one that records the web, one that answers in its place, or none.
- warc_exchange: One exchange in, its WARC records out, each a gzip member; and back again, equal in every field.
- writer: Record what a download requests and gets: `<shard>.warc.gz`, and its index `<shard>.cdxj`.
"""
