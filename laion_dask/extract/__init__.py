"""The stage extract: from a WAT to pairs of an image link and its text.

- wat: Reading WAT files: stored bytes, compression, records, their JSON, and what to do where they are damaged.
- judge: A page with its image links in, a pair or the first reason against it for each of them out.
- part: One WAT in, one Parquet table of pairs with their provenance out, and counts of records and links that add up.
- parts: Find the parts of an extraction, one for each WAT, and refuse a list of which none can be read.
- personal: Texts and addresses of pairs in, how much personal data each holds out: counts by kind, never a value.
- rates: The progress line of an extraction: pages, pairs and stored bytes a second, over all workers.
- readings: Finished WATs in; the pairs, defects and readings of a version out, and beside it how long each WAT took.
- sorted_runs: Sorted tables in, one sorted Parquet file out, however many they are: memory holds one of them and a
  slice of each.
- text: Alt texts as found in, clean texts with their language out.
"""
