"""Searching files of any format, at any depth, for traces of removed pairs.

- trace_files: A file of any kind in, the first trace in it out: its bytes, and all that is packed in it, at any
  depth.
- trace_fold: Bytes that were escaped for JSON, HTML, URLs or CSV, or written as UTF-16, brought into the one searched
  form.
- trace_formats: The first bytes of a file in, what kind of file it is out; and what of the kinds can be opened.
- trace_forms: Every way in which a trace may stand in a file as bytes, beside the escapes that `trace_fold` undoes.
- trace_openers: Files that hold other files, or texts that are packed: each opener yields what is inside, one after
  the other.
- trace_patterns: Many byte strings looked for at once, however many they are.
- trace_rows: Rows of removed pairs in tables: whether they hold more than names and fate, and the same rows without
  that.
- trace_search: Traces are searched in bytes, block by block: every place where one stands, but not inside of a value
  that is kept.
- trace_sqlite: A database of SQLite in, its values out, and what its pages hold of values that were deleted.
- trace_tables: Tables in, what their values hold out: columns of every Arrow type, and the texts that lie beside the
  columns.
- trace_values: What a removed pair is known by, and the values of pairs that stay in which the same characters stand.
- traces: What is known of removed pairs in, the files that still hold any of it out: tables, archives, pages,
  whatever.
"""
