"""The watermark detector: LAION's architecture, with weights that the test makes, on pixels as its example has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laion_dask.clip import tensors
from laion_dask.clip.clip import ModelError
from laion_dask.params.heads import Head
from laion_dask.score import watermark


def test_the_detector_gives_the_first_class_of_the_published_network(tmp_path: Path) -> None:
    import timm
    import torch
    from torch import nn
    from torchvision import transforms

    torch.manual_seed(4)
    # As example_use.py of LAION-5B-WatermarkDetection puts it together; random where it has trained weights.
    network = timm.create_model("efficientnet_b3", pretrained=False, num_classes=2)
    network.classifier = nn.Sequential(
        nn.Linear(1536, 625), nn.ReLU(), nn.Dropout(p=0.3), nn.Linear(625, 256), nn.ReLU(), nn.Linear(256, 2)
    )
    torch.save(network.state_dict(), tmp_path / "watermark.pt")
    network.eval()
    rng = np.random.default_rng(2)
    pictures = [Image.fromarray(rng.integers(0, 256, (40, width, 3), np.uint8)) for width in (40, 90)]
    steps = transforms.Compose(
        [
            transforms.Resize((256, 256)),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    with torch.inference_mode():
        wanted = network(torch.stack([steps(one) for one in pictures])).softmax(dim=1)[:, 0].numpy()
    detector = watermark.load(Head(kind="watermark", file=str(tmp_path / "watermark.pt")))
    pixels = torch.from_numpy(np.stack([np.asarray(detector.preparation.steps(one)) for one in pictures]))
    scores = detector.score(pixels).numpy()
    assert (detector.column, detector.preparation.side, scores.dtype) == ("pwatermark", (256, 256), np.float32)
    np.testing.assert_allclose(scores, wanted, atol=1e-5)


def test_weights_of_another_network_are_refused_with_a_remedy(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", weight=np.zeros((2, 2)))
    assert set(tensors.read(tmp_path / "other.npz")) == {"weight"}
    with pytest.raises(ModelError, match=r"not a state dict of LAION's watermark detector: .*Missing key.*Remedy: "):
        watermark.load(Head(kind="watermark", file=str(tmp_path / "other.npz")))
