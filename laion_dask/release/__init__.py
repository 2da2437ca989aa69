"""The stage release: tables, layouts, card, Croissant and the manifest of a version.

- card: Write README.md, the card of a release, in the seven sections of a datasheet.
- card_figures: Draw the figure beside the card: an SVG whose bytes depend on the numbers alone.
- composition: Measure a release: the numbers for its card and for comparing versions.
- croissant: Write croissant.json: Croissant 1.1 with the RAI vocabulary and PROV provenance.
- croissant_rai: Write the properties of Croissant RAI 1.0: how a release was made, and its limits.
- exports: Export scored shards in the layouts of clip-retrieval and DataComp, as subset files, or with faces blurred.
- layouts: Write released rows in the columns of other data sets: LAION-400M, LAION-5B, Re-LAION, DataComp,
  img2dataset.
- limitations: Write the sentences of card and Croissant on uses, limits and biases of a version.
- manifest: Write and check manifest.json: the digest of every file of a release, the Merkle root, and its origin.
- manifest_counts: Compare the counts of a manifest with each other: rows of files, leaves of the Merkle tree, kept
  pairs.
- merkle: Compute the Merkle root of sorted uids, and prove that a uid is or is not among them.
- part: Verdicts in, the released tables out: ours by split, subsets, the columns of other data sets, tombstones.
- publication: Write the description of a release, in this order: card, Croissant, manifest.
- rate_lines: Count the rates for the card: by split, and for the languages and hosts with most attempts.
- tables: The tables of a release: which pairs stand in which, and how parts of a bounded size write their files.
- webdataset: Export the kept pairs as shards for training, with one of the texts of each pair as its caption.
"""
