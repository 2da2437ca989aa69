"""Any image-to-text model of transformers, by its own `generate`, whose tokens are drawn here.

`generate` encodes an image once for all samples where the model has its encoder before its loop (BLIP-2, InstructBLIP);
where the decoder takes pixels itself (GIT), it encodes them once for each sample.
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from laion_dask.caption.sampler import Draws, Vocabulary
from laion_dask.clip.clip import ModelError


def vocabulary(network: Any, processor: Any, prompt: str | None) -> Vocabulary:  # noqa: ANN401 - of transformers
    """Return the tokens of the prompt alone, and the tokens that end a text."""
    tokenizer = processor.tokenizer
    ends = network.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    if ends is None:
        raise ModelError("caption.model: the model has no token for the end of a text. Remedy: another model")
    words = tokenizer(prompt, add_special_tokens=False).input_ids if prompt else []
    return Vocabulary((*words,), (*ends,) if isinstance(ends, list) else (ends,))


def prompted(network: Any, processor: Any, prompt: str | None) -> dict[str, Any]:  # noqa: ANN401 - of transformers
    """Return what the model reads beside the pixels, one row each: the prompt, with the places of the image.

    Where the decoder goes on from the prompt, that stands without the token that a tokenizer of BERT's kind ends it
    with: the caption would be over.
    """
    blank = Image.new("RGB", (64, 64))
    inputs = processor(images=blank, text=prompt.rstrip() if prompt else None, return_tensors="pt")
    found = {name: values for name, values in inputs.items() if name not in {"pixel_values", "token_type_ids"}}
    config, tokenizer = network.config, processor.tokenizer
    goes_on = not config.is_encoder_decoder and getattr(config, "use_decoder_only_language_model", True)
    if (
        goes_on
        and "input_ids" in found
        and int(found["input_ids"][0, -1])
        in {
            tokenizer.eos_token_id,
            tokenizer.sep_token_id,
        }
    ):
        found |= {name: found[name][:, :-1] for name in ("input_ids", "attention_mask")}
    return found


def generate(network: Any, images: Any, beside: dict[str, Any], draws: Draws) -> None:  # noqa: ANN401 - torch's
    """Draw all samples of the normalised images (images, 3, height, width); their tokens are then in `draws`."""
    import torch  # noqa: PLC0415 - seconds
    import transformers  # noqa: PLC0415
    from transformers import LogitsProcessor, LogitsProcessorList  # noqa: PLC0415

    settings: Any = transformers.GenerationConfig

    class Drawn(LogitsProcessor):
        """Leaves only the token that is drawn here."""

        def __init__(self) -> None:
            self.step = 0

        def __call__(self, input_ids: Any, scores: Any) -> Any:  # noqa: ANN401, ARG002 - as transformers has it
            drawn = draws.next(self.step, scores, torch.arange(len(scores), device=scores.device))
            self.step += 1
            return torch.full_like(scores, float("-inf")).scatter_(-1, drawn[:, None], 0)

    own = network.generation_config
    # None of the model's own settings: they would change the distribution before the draw.
    config = settings(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        num_return_sequences=draws.samples,
        max_new_tokens=draws.steps,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id if own.pad_token_id is not None else draws.end,
        bos_token_id=own.bos_token_id,
        decoder_start_token_id=own.decoder_start_token_id,
    )
    rows = {name: values.to(images.device).expand(len(images), *values.shape[1:]) for name, values in beside.items()}
    network.generate(
        pixel_values=images, **rows, generation_config=config, logits_processor=LogitsProcessorList([Drawn()])
    )
