"""WARC files and the HTTP messages in them: read record by record, decoded, indexed.

- cdxj: Write and search CDXJ indexes: sorted lines that locate the exchanges in WARC files.
- codings: Decode the content codings of a body piece by piece, within a size limit, as browsers do.
- http_message: Parse the HTTP answer in a WARC record: status, headers, and the body without chunked transfer coding.
- recorded: Find and read the answers in WARC files: which record answers for an address, and with what.
- warc_files: Read WARC files record by record, with any compression, and refuse a file that cannot be read to its end.
"""
