"""The stage extract: from a WAT to pairs of an image link and its text.

- wat: Reading WAT files: stored bytes, compression, records, their JSON, and what to do where they are damaged.
- judge: Decide for each image link of a page whether it becomes a pair, or count the first reason against it.
- language: Detect the language of texts with fastText, and the split that a text belongs to.
- license_ids: Identify the licence that an address stands for, by its SPDX id: Creative Commons, GNU, Apache, OGL and
  others.
- licenses: Find the licence that a page links to, for the page or for each of its images.
- part: One WAT in, one Parquet table of pairs with their provenance out, and counts of records and links that add up.
- parts: Find the parts of an extraction, one for each WAT, and refuse a list of which none can be read.
- personal: Count personal data in the text and address of each pair, by kind; no value is ever stored.
- rates: The progress line of an extraction: pages, pairs and stored bytes a second, over all workers.
- readings: Publish finished WATs: pairs, listed defects and a row for each WAT; how long each took goes beside the
  version.
- sorted_runs: Sort any number of tables by uid into one Parquet file; memory holds one table and a slice of each.
- text: Clean alt texts by the steps of `extract.text_steps`.
"""
