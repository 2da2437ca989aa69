"""The stage score: embeddings, similarities and the scores of heads, tags, watermark, faces and masked text.

- batches: Make batches of a shard's images and texts: decoded and tokenized once, ahead of the forward pass.
- captions: Embed the captions of a shard: equal ones once, in order of their lengths, each the same beside any
  others.
- faces: Detect faces with an ONNX model of the user that has SCRFD's outputs, and return their boxes.
- foreign_tar: Score one tar that others made, as a shard of the project is scored.
- heads: Score embeddings with heads: published ones for aesthetics, unsafe images and violence, or any linear one or
  MLP.
- join: Join the scores and the arrays of all shards of a version.
- part: One shard of images in, its embeddings and scores out: one slot for every row, NaN where there is no image.
- required_files: Find what decides the scores beside the images: the weights of models, heads, tags and detectors.
- score_columns: Add the columns of heads, tags and detectors to the scores.
- tags: Classify images by text prompts (zero-shot), with LAION-400M's NSFW tag by its own rules.
- takeover: Take over scores and embeddings from earlier parts, for pictures with the same bytes and the same text.
- text_mask: Score images without the text in them: mask what a detector finds, and embed the image again, as T-MARS
  does.
- watermark: Score the probability of a watermark with LAION's detector, an EfficientNet-B3 on pixels, not embeddings.
"""
