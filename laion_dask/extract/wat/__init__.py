"""Read WAT files: stored bytes, compression, records and their JSON, with recovery from damage.

- blocks: Read the stored bytes of a local file or a URL by offset, in blocks; request each once, count and hash
  them.
- gzip_members: Decompress a gzip member of a stored file in chunks, and find where records begin.
- ranges: Request one byte range of a file by HTTP, S3 or another fsspec file system, and classify its errors.
- wat_damage: Read a damaged WAT record by record, and find the next record after the damage.
- wat_envelope: The envelope of a WAT record's JSON: address and fetch date of the page, from a WARC or ARC header.
- wat_json: Parse image links and a few other fields from the JSON body of a WAT record.
- wat_pages: Yield the HTML pages with image links of a WAT; count every other record and every defect by reason.
- wat_records: Yield the records of a WAT as stored, and a `Damage` with its reason for all other bytes.
- zstd_frames: Decompress Zstandard frames (RFC 8878) of a stored file as one stream, and map records to frames.
"""
