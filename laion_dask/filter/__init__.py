"""The stage filter: the only place where a number meets a threshold.

- clip_losses: Compute filter columns from stored embeddings: negCLIPLoss, NormSim, and the cluster of an image.
- duplicates: Decide which pairs are duplicates of a kept pair: same bytes, near-duplicates, or the same meaning.
- filter_checks: Check before anything runs that every column that the section `filter` names will exist.
- given_scores: Look up the scores of a file by uid, such as FLYT's, for filter.computed.
- over_all: Decide the rules that need all shards: removals by picture, top fractions, duplicates, balancing,
  sampling.
- part: Scores in, verdicts out: the only place where a number meets a threshold.
- parts: Find the parts of the stage filter, one for each shard, and prepare what their rules read beside the tables.
- pool: Compute the inputs of rules over all shards: cuts of top fractions, probabilities of entries, random batches.
- publish: Publish the verdicts of all shards, and prove that every pair of the catalog has one.
- rules: Apply the filter rules that need one row only: each rule returns a mask of the rows that it would drop.
- sampling: Rules that draw pairs by chance, by hashes of seed and uid: MetaCLIP's balancing, FLYT's soft cap sampling.
- takedown: Find the pairs that removals name in tables, and change verdicts without running the stage filter again.
- top_fraction: Find the lowest value of the top fraction of a column over all shards, by DataComp's rule, in bounded
  memory.
- uid_sets: Read files with sets of uids (DataComp's subset files, Parquet of earlier versions) and look uids up in
  them.
- where: Evaluate the SQL expression of filter.where on the rows of a table with DuckDB.
"""
