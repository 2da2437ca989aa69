"""The stage score: embeddings, similarities and the scores of heads, tags, watermark and faces.

- batches: The images of a shard in, batches for the towers out: decoded ahead of the forward pass, once for all
  models.
- faces: Pixels in, boxes of faces out: a detector of the user in ONNX, with the outputs that SCRFD has.
- heads: Embeddings in, scores out: published heads for aesthetics, unsafe images and violence, and any linear or MLP
  head.
- join: Join the scores and the arrays of all shards of a version.
- part: One shard of images in, its embeddings and scores out: one slot for every row, NaN where there is no image.
- prefetch: Bodies of images in, pixels in a room out: decoding ahead of a forward pass, in a thread or in processes.
- score_columns: Embeddings of named models in, named columns of the scores out: what heads and prompts make of them.
- tags: Image embeddings and prompts in, zero-shot categories out: scores for each, and LAION-400M's NSFW tag by its
  rules.
- tar_folders: Score a folder of tars that others made: img2dataset's and webdataset's layouts.
- tar_samples: Find the samples of a tar that others made: which picture and which texts belong together, and what
  cannot be used.
- watermark: Pixels in, probability of a watermark out: LAION's detector, an EfficientNet-B3 that reads images, not
  embeddings.
- weights: Find what decides the scores beside the images: the weights of models, heads, tags and detectors.
"""
