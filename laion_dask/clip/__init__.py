"""A loaded CLIP model: weights, devices, preprocessing, embeddings and their self check.

- clip: A loaded CLIP model of any architecture on one device, which computes unit embeddings of images and texts.
- decoded: Make batches of decoded images: each image is decoded once for several networks, ahead of the forward pass.
- devices: Choose CPU or GPU, and run forward passes there in slices that fit into its memory.
- hub: Load what open_clip needs from the hub's cache on this machine; ask the hub only where the cache lacks it.
- models: Load a CLIP model by open_clip's architecture name, hub name or local folder; compile it; size its
  batches.
- prefetch: Decode images ahead of the forward pass, in a thread or in processes, into shared buffers.
- preprocess: Decode each image once to uint8 pixels, and turn these into the input of every model by its own
  transforms.
- self_check: Check that this machine's libraries compute the stored embeddings of the demo's model; raise where
  they do not.
- tensors: Read arrays by name from .npz, .npy, .safetensors and .pth files without running code that a pickle
  holds.
- text_tower: Run open_clip's text tower on only as many token positions as the longest text of a batch has.
- weights: Find a CLIP model's weights and tokenizer, fetch what is missing, and identify the weights by their
  sha256.
"""
