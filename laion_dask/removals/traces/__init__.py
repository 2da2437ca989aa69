"""Searching files of any format, at any depth, for traces of removed pairs.

- trace_files: Search a file of any kind for traces, in its bytes and in everything packed inside, at any depth.
- trace_fold: Bring bytes that were escaped (JSON, HTML, URLs, CSV) or written as UTF-16 into the one form that is
  searched.
- trace_formats: Recognize the kind of a file by its first bytes, and which kinds cannot be opened.
- trace_forms: Every form that a trace may have in a file, besides the escapes that `trace_fold` undoes.
- trace_openers: Open files that hold other files or packed texts: each opener yields what is inside, one after the
  other.
- trace_patterns: Search for many byte strings at once.
- trace_rows: Rows of removed pairs in tables: find those with more than uid and verdict, and blank the rest.
- trace_search: Search blocks of bytes for traces, leaving out those inside a value that a remaining pair has too.
- trace_sqlite: Read the values of a SQLite database, deleted ones in its pages included.
- trace_tables: Read the values of tables: columns of every Arrow type, metadata and statistics.
- trace_values: The values that identify removed pairs, and the kept values that contain one of them.
- traces: Say whether a file still holds a trace of removed pairs: tables, archives, pages, any file.
"""
