"""WARC files and the HTTP messages in them: read record by record, decoded, indexed.

- cdxj: WARC files in, a sorted index of their exchanges out (CDXJ), and the places of a URL found in it by halving.
- codings: Undo the content codings of a body piece by piece, within a limit, as browsers do.
- http_message: Read an HTTP answer as a WARC record holds it: status, headers, and the body without the chunks it
  came in.
- recorded: Find and read the answers that WARC files hold: which record answers for an address, and what it says.
- warc_files: Read WARC files record by record, however they are packed, and refuse a file that cannot be read to its
  end.
"""
