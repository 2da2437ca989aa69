"""Reading WAT files: stored bytes, compression, records, their JSON, and what to do where they are damaged.

- blocks: Read the stored bytes of a local file or a URL by offset, in blocks; count and hash them, ask for each
  once.
- gzip_members: Unpack a gzip member of a stored file piece by piece, and look for where records begin.
- ranges: Ask for one byte range of a file by HTTP, S3 or another fsspec file system, and tell what its failure
  means.
- wat_damage: Read a damaged WAT record by record, and find the place behind the damage where the next record
  begins.
- wat_envelope: The envelope of a WAT record's JSON: the page and when it was fetched, from a WARC header or an ARC
  header.
- wat_json: Take image links and the few fields that are used out of the JSON body of a WAT record.
- wat_pages: Yield the HTML pages with image links of a WAT; count every other record and every defect by reason.
- wat_records: Yield the records of a WAT as stored, and a `Damage` with its reason for every stretch that is no
  record.
- zstd_frames: Unpack Zstandard frames (RFC 8878) of a stored file as one stream, and know in which frame each
  record begins.
"""
