"""The stage extract: read image links and their texts from WAT files.

- wat: Read WAT files: stored bytes, compression, records and their JSON, with recovery from damage.
- judge: Decide for each image link of a page whether it becomes a pair, or count the first reason against it.
- language: Detect the language of texts with fastText, and the split that a text belongs to.
- license_ids: Map the address of a licence to its SPDX id: Creative Commons, GNU, Apache, OGL and others.
- licenses: Find the licence that a page links to, for the page or for each of its images.
- part: Read one WAT, write a Parquet table of its pairs with their provenance, and return counts that add up.
- parts: List the parts of an extraction, one for each WAT, and fail if none of them can be read.
- rates: The progress line of an extraction: pages, pairs and stored bytes per second, over all workers.
- readings: Publish finished WATs: pairs, listed defects and a row for each WAT; times go to a file outside the
  version.
- sorted_runs: Merge any number of tables by uid into one Parquet file, by an external sort with bounded memory.
- text: Clean alt texts by the steps of `extract.text_steps`.
"""
