"""Downloads kept as WARC files, and downloads answered out of WARC files.

- archived: Read one exchange of an index out of its WARC file, or copy its records as they are written into another
  archive.
- exchanges: Exchanges of a shard in, `<shard>.warc.gz` and its index `<shard>.cdxj` out; and answers out of such
  files again.
- replay: WARC files in, a loopback web server out that answers for every host as the archive recorded it.
- warc_exchange: One exchange in, its WARC records out, each a gzip member; and back again, equal in every field.
"""
