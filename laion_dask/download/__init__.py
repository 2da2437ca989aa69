"""The stage download: one shard of the work list, asked for politely, kept as img2dataset does.

- earlier: A download and an earlier one in, what became of each pair out: same bytes, same picture, changed, gone,
  refused.
- host_queue: Rows with their hosts in, the next row out: hosts take turns, and a host that fails waits until all
  others are done.
- known_gate: The lists of known content at the gate of one download: an address or a body in, whether it may pass
  out.
- part: One shard's work list in, one shard out: a row for every attempt, the pictures of those that came, and counts.
- reorder_buffer: Rows that end in any order in, the same rows in order out, with their images: in memory while few,
  else on disk.
- rounds: The rounds of one shard in, the shard out: each row as the last round that tried it left it.
- url_json: Read the lines of a table of URLs that is JSON lines: an object a line, each for itself.
- url_rows: What the readers of tables of URLs share: a row, a table as far as it is read, and its lines with their
  numbers.
- url_tables: Read tables of URLs that are text (CSV, TSV, JSON lines, a URL a line) strictly, line by line, into text
  columns.
- worklist: Tables of URLs in, work lists out: Parquet, CSV, TSV, JSON lines or text, cut to shards, in bounded
  memory.
"""
