"""The stage caption: captions of the images of kept pairs, beside the alt texts.

- blip: BLIP of transformers: the image is encoded once, and so is the prompt; all samples share the image's keys and
  values.
- captioners: A loaded captioner of any kind on one device, which gives the samples of a batch of images.
- coca: CoCa of open_clip: the image is encoded once; the text decoder has no cache, so each step reads the whole text.
- decoding: Generate all samples of a batch of images, step by step, without the rows of samples that have ended.
- foreign_tar: Caption one tar that others made, as a shard of the project is captioned.
- image_to_text: Any image-to-text model of transformers, by its own `generate`, whose tokens are drawn here.
- model_folders: Find the folder of a model of transformers, fetch what it lacks, and identify its weights by their
  sha256.
- models: Find, identify and describe the models of captioning: the captioner, the rankers, the repair.
- part: One shard's kept images in, their captions out: a row for each pair, with the caption or a reason.
- preparation: Turn a model's image processor of transformers into a preparation of `clip`, with the same pixels.
- rank: Remove duplicate samples, and rank the others by CLIP models in steps.
- repair: Let a text-to-text model of transformers rewrite captions, as LAION-COCO repaired their grammar with a T5.
- sampler: Draw the tokens of captions as LAION-COCO's sampler does, with random numbers that depend on the image alone.
"""
