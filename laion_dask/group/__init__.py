"""The stage group: images that are near each other, by hash and by embedding.

- clusters: Embeddings in, clusters and the near ones within each cluster out: what SemDeDup compares, by faiss's
  k-means.
- evaluation_sets: Files with hashes or embeddings of evaluation sets in, how near an image is to any of them out.
- part: Shards with hashes and embeddings in, images that are near each other out: the steps of the stage group.
- steps: The steps of the stage group after its shards are read: which parts each has, and how results are joined.
"""
