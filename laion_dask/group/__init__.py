"""The stage group: images that are near each other, by hash and by embedding.

- clusters: Cluster embeddings by faiss's k-means and find near ones within each cluster, as SemDeDup does.
- evaluation_sets: Measure how near each image is to images of evaluation sets, by hash or by embedding.
- part: Shards with hashes and embeddings in, images that are near each other out: the steps of the stage group.
- steps: The steps of the stage group after its shards are read: which parts each has, and how results are joined.
"""
