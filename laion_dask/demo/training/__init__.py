"""How the demo's small CLIP and detector were trained, and how well they do.

- evaluate: Evaluate the small CLIP on held-out scenes.
- faces: Train the small detector of drawn faces, write it as ONNX with SCRFD's outputs, and measure what it finds.
- train: Train the small CLIP from a seed; write weights, vocabulary and heads, and how well they do on held-out
  scenes.
"""
