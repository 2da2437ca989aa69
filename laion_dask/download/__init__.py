"""The stage download: one shard of the work list, asked for politely, kept as img2dataset does.

- answers: Open the source of a download: the live web, WARC files, or an archive of an earlier download.
- attempt: One attempt to download a pair: what came, what was decoded, and the row that the shard's table gets of it.
- body_checks: Check a body before its picture is kept: known content, the owner's refusal, decoding, an earlier
  version.
- earlier: Compare a download with an earlier one: same bytes, same picture, changed, gone or refused.
- host_queue: The queue of rows of a shard: hosts alternate, and a failing host waits until all others are done.
- known_gate: Keep known content out of a download: addresses before they are fetched, bodies before they are decoded.
- part: One shard's work list in, one shard out: a row for every attempt, the pictures of those that came, and counts.
- parts: Find the parts of a download: one for each shard of the work list, and further rounds of what failed for now.
- rates: The progress line of a download: images a second, the share of successes, the top reasons, the slowest hosts.
- reorder_buffer: Restore the order of rows that end in any order, in memory while they are few, else on disk.
- rounds: Join the rounds of one shard: each row from the last round that tried it.
- takeover: Take over rows of a download from earlier parts, asking for nothing: attempts, pictures, recorded
  exchanges.
- url_json: Read a table of URLs in JSON lines: each line is an object and is parsed on its own.
- url_rows: Common parts of the readers of URL tables: rows, faults, and numbered lines.
- url_tables: Read tables of URLs that are text (CSV, TSV, JSON lines, a URL a line) strictly, line by line, into text
  columns.
- worklist: Cut tables of URLs (Parquet, CSV, TSV, JSON lines, text) into work lists of one shard each, in bounded
  memory.
"""
