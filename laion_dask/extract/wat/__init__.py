"""Reading WAT files: stored bytes, compression, records, their JSON, and what to do where they are damaged.

- blocks: A local path or a URL in, its bytes as stored out: by offset, in blocks, each asked for once, counted and
  hashed.
- gzip_members: Stored bytes in, what stands there unpacked out: a window on a file, or on one gzip member of it,
  moved forward.
- ranges: A file of an fsspec file system and a range of it in, its bytes out: one request, and what its failure
  means.
- wat_damage: A place in a WAT in, what stands there out, record by record, and the place where reading goes on.
- wat_envelope: The envelope of a WAT record's JSON: the page and when it was fetched, from a WARC header or an ARC
  header.
- wat_json: The JSON body of a WAT record in, what a page needs of it out: only the image links and the fields that
  are used.
- wat_pages: A WAT in, its HTML pages with image links out; every other record and every defect with its reason and
  offset.
- wat_records: The place of a WAT in, its records as stored out, and a word for every stretch that gives none.
- zstd_frames: Unpack Zstandard frames (RFC 8878) of a stored file as one stream, and know in which frame each record
  begins.
"""
