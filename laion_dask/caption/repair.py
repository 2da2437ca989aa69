"""Let a text-to-text model of transformers rewrite captions, as LAION-COCO repaired their grammar with a T5."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any, Final

from laion_dask import params
from laion_dask.caption import model_folders, models
from laion_dask.clip import devices
from laion_dask.clip.clip import ModelError
from laion_dask.clip.weights import quiet

_BATCH: Final = 64
# Two tasks of one process must not load a model twice.
_loading: Final = threading.Lock()


def repaired(captions: Sequence[str], settings: params.Caption) -> list[str]:
    """Return each caption as the model rewrites it, greedily; the caption itself where the model writes nothing.

    Captions are sorted by length, so that batches are padded little; the batches depend on the captions alone.
    """
    rules = settings.repair
    if rules is None or not captions:
        return list(captions)
    import torch  # noqa: PLC0415 - seconds

    with _loading:
        network, tokenizer, device = _load(settings)
    found = list(captions)
    order = sorted(range(len(captions)), key=lambda one: (len(captions[one]), captions[one]))
    for at in range(0, len(order), _BATCH):
        chunk = order[at : at + _BATCH]
        texts = [f"{rules.prompt}{captions[one]}" for one in chunk]
        tokens = tokenizer(texts, return_tensors="pt", padding=True).to(device)
        with torch.inference_mode():
            written = network.generate(
                input_ids=tokens.input_ids,
                attention_mask=tokens.attention_mask,
                do_sample=False,
                num_beams=1,
                max_new_tokens=rules.max_tokens,
            )
        for one, text in zip(chunk, tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
            found[one] = " ".join(text.split()) or found[one]
    return found


@functools.cache
def _load(settings: params.Caption) -> tuple[Any, Any, str]:
    import transformers  # noqa: PLC0415 - seconds

    spec = models.of_repair(settings)
    if spec is None:
        raise ValueError("no model repairs captions")
    folder = model_folders.find(spec)
    model_folders.identify(spec)
    device = devices.find()
    try:
        with quiet(), model_folders.no_bars():
            network: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                folder, dtype=devices.dtype(settings.precision), use_safetensors=True, local_files_only=True
            )
            tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception as error:
        # Any exception: transformers wraps errors of its parsers, and damaged files raise all kinds.
        message = (
            f"{spec.key}: model {spec.known_as} cannot be loaded: {error or type(error).__name__}. Remedy: a "
            "text-to-text model of transformers (T5 and others), with its tokenizer, in one folder"
        )
        raise ModelError(message) from error
    return network.to(device).eval().requires_grad_(requires_grad=False), tokenizer, device
