"""The stage release: tables, layouts, card, Croissant and the manifest of a version.

- card: A release and what made it in, README.md out: the dataset's card, in the seven sections of a datasheet.
- card_figures: Numbers of a release in, the figure beside its card out: an SVG with the same bytes for the same
  numbers.
- composition: The folder of a release in, its numbers out: what the card shows, and what two versions are compared
  by.
- croissant: A release and what made it in, croissant.json out: Croissant 1.1 with the RAI vocabulary and PROV
  provenance.
- croissant_rai: What made a release and its numbers in, the properties of Croissant RAI 1.0 out: how it came about
  and its limits.
- exports: Scored shards in, the layouts of other tools out: clip-retrieval's, DataComp's, subset files, shards
  without faces.
- layouts: Released rows in, the same pairs in the columns of other data sets out: the part of the vocabulary that is
  theirs.
- limitations: Parameters and numbers of a version in, sentences out that say plainly what is wrong with it and what
  it is for.
- manifest: The folder of a release in, manifest.json out: every file with its digest, the Merkle root, and all that
  made it.
- manifest_counts: The counts of a manifest compared with each other: rows of files, leaves of the Merkle tree, pairs
  that were kept.
- merkle: Sorted uids in, a Merkle root out, and proofs that a uid is or is not among them.
- part: Verdicts in, the released tables out: ours by split, subsets, the columns of other data sets, tombstones.
- publication: Tables of a release in, what describes and proves them out: card, Croissant, manifest, in this order.
- rate_lines: The rates of a version's card: lines by split, and by the languages and hosts that most was asked for
  of.
"""
