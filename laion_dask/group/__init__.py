"""The stage group: images that are near each other, by hash and by embedding.

- clusters: Cluster embeddings by faiss's k-means and find near ones within each cluster, as SemDeDup does.
- evaluation_sets: Measure how near each image is to images of evaluation sets, by hash or by embedding.
- near: Find images with near hashes, in parts by value of a band and by range of images.
- numbering: Number the distinct images of all shards in the order of their uids, by range of sha256 and of uid.
- part: Shards with hashes and embeddings in, a row for each image out: the first and the last step of the stage group.
- semantic: Find images with near embeddings within clusters, in parts by shard and by set of clusters.
- slices: Store records sorted by the part that needs them, so that a later part reads its own piece and nothing else.
- steps: The steps of the stage group after its shards are read: which parts each has, and how results are joined.
- stored: Read uids and embeddings of images by number from the files of earlier parts, and write tables of edges.
"""
