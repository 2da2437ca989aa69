"""The stage filter: the only place where a number meets a threshold.

- balance: Texts and a list of entries in, pairs balanced over the entries out: MetaCLIP's curation (arXiv
  2309.16671).
- clip_losses: Stored embeddings in, columns to filter by out: negCLIPLoss, NormSim, and the cluster of an image.
- duplicates: Pairs that pass every other rule and what the stage group recorded in, those that another one stands for
  out.
- filter_checks: The section `filter` and the columns that will be there in, nothing out: what is missing is told at
  once.
- hash_lists: Digests that removals name in, the rows of a table that match out; lists of partners have an index
  (`lists`).
- keywords: Captions and lists of words in, which captions have one of them out: whole words, whatever the case and
  the script.
- over_all: Decide what no shard can say alone: later removals, top fractions, duplicates, balancing.
- part: Scores in, verdicts out: the only place where a number meets a threshold.
- parts: Find the parts of the stage filter, one for each shard, and prepare what their rules read beside the tables.
- pool: All shards in, what no shard can say alone out: cuts of top fractions, chances of entries, random batches.
- publish: Publish the verdicts of all shards, and prove that every pair of the catalog has one.
- rules: The rows of a shard and the parameters in, one column of drops for each rule out: what a row alone can say.
- takedown: Removals and the tables of a version in, the pairs that they name out; and their verdicts, changed in
  place of a run.
- top_fraction: A column over all shards and a fraction in, the lowest value that stays out: DataComp's rule, in
  bounded memory.
- uid_sets: Files with sets of uids in, whether a pair is in them out: DataComp's subset files, and Parquet of earlier
  versions.
- where: One SQL expression and a table in, the rows for which it holds out: filter.where, by DuckDB.
"""
