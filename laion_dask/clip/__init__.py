"""A loaded CLIP model: weights, devices, preprocessing, embeddings and their self check.

- clip: Images and texts in, unit embeddings out: one loaded model on one device, whatever its architecture.
- devices: A forward pass and its rows in, results out: on the CPU or on a GPU, in slices that the memory has room
  for.
- hub: What open_clip makes with the hub's help in; out the same from this machine's cache, else from a hub that
  answers.
- models: A model's name in, the loaded model out: open_clip's architectures, hub names, local folders and
  checkpoints.
- preprocess: Image bytes in, uint8 pixels for every model out: one decode for all, then each model's own transforms.
- self_check: Stored embeddings of the demo's model in, an error out where this machine's libraries give others.
- tensors: A file of numbers in, arrays by name out: .npz, .npy, .safetensors and .pth, without running what a pickle
  says.
- text_tower: Tokens in, text features out: open_clip's text tower on no more positions than the longest text of a
  batch has.
"""
