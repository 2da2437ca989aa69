"""How the demo's small CLIP and detector were trained, and how well they do.

- evaluate: The folder of the small CLIP in, its evaluation on held-out scenes out.
- faces: A seed in, the small detector of drawn faces out: an ONNX file with SCRFD's outputs, and how much it finds.
- onnx_file: Nodes and weights of a small network in, an ONNX file out: as many of the format's messages as that
  takes.
- train: A seed in, the folder of the small CLIP out: weights, vocabulary, heads, and how well they do on held-out
  scenes.
"""
