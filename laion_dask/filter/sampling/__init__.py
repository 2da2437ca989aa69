"""Rules that draw pairs by chance, by hashes of seed and uid: MetaCLIP's balancing, FLYT's soft cap sampling.

- balance: Balance pairs over a list of entries that their texts contain: MetaCLIP's curation (arXiv 2309.16671).
- balance_lists: Read the lists of entries by language of MetaCLIP 2 (arXiv 2507.22062), and find the thresholds of its
  languages.
- soft_cap: Draw a sample in which good pairs repeat, by FLYT's soft cap sampling (arXiv 2503.08805).
"""
