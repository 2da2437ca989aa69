"""Train and evaluate the demo's small CLIP, face detector, captioner and translator.

- captioner: Train the demo's small captioner: BLIP's architecture, on drawn pictures.
- evaluate: Evaluate the small CLIP on held-out scenes.
- evaluate_texts: Evaluate the small captioner on held-out pictures, and the small translator on held-out texts.
- faces: Train the small detector of drawn faces, write it as ONNX with SCRFD's outputs, and evaluate it.
- fitting: Fit the small captioner and translator: AdamW, one cycle of the learning rate, progress in lines.
- train: Train the small CLIP from a seed; write weights, vocabulary and heads, and evaluate them on held-out scenes.
- translations: Make the pairs of texts that the small translator learns from: a caption and its meaning in English.
- translator: Train the demo's small translator: M2M100's architecture, converted for CTranslate2.
"""
