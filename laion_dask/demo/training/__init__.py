"""Train and evaluate the demo's small CLIP and face detector.

- evaluate: Evaluate the small CLIP on held-out scenes.
- faces: Train the small detector of drawn faces, write it as ONNX with SCRFD's outputs, and evaluate it.
- train: Train the small CLIP from a seed; write weights, vocabulary and heads, and evaluate them on held-out scenes.
"""
