"""Captions of an image as others make them, on BLIP of transformers: Data-Juicer's mapper, LAION's worker, `generate`.

Each way is measured on the same loaded network, after the image is decoded and resized; none of them ranks.
"""

from __future__ import annotations

import time
from typing import Any, Final

# Of LAION-COCO's worker; the lengths are set so that samples of random weights reach them.
TOP_P: Final = 0.2427084604681384
TOP_K: Final = 9607
PENALTY: Final = 1.3


def clock() -> float:
    """Return seconds of processor time, which other programs of the machine disturb little; on a GPU of the clock."""
    import torch  # noqa: PLC0415 - seconds

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def sampling(longest: int) -> dict[str, Any]:
    """Return LAION-COCO's sampler as parameters of `generate`, for texts of up to so many new tokens."""
    rules = {"top_p": TOP_P, "top_k": TOP_K, "repetition_penalty": PENALTY}
    return {"do_sample": True, "max_new_tokens": longest, **rules}


def sample_by_sample(network: Any, image: Any, words: Any, lengths: list[int], samples: int) -> float:  # noqa: ANN401
    """Return the seconds of an image as Data-Juicer's `image_captioning_mapper` has them: one call for each sample.

    `lengths` are those of the samples that are measured; the others take as long.
    """
    began = clock()
    for longest in lengths:
        network.generate(pixel_values=image, input_ids=words.clone(), **sampling(longest))
    return (clock() - began) * samples / len(lengths)


def together(network: Any, images: Any, words: Any, lengths: list[int]) -> float:  # noqa: ANN401 - torch's
    """Return the seconds of some images in one call of `generate` with a sample for each of the lengths."""
    began = clock()
    rows = words.repeat(len(images), 1)
    network.generate(pixel_values=images, input_ids=rows, num_return_sequences=len(lengths), **sampling(max(lengths)))
    return clock() - began


def without_cache(network: Any, image: Any, words: Any, lengths: list[int], steps: int) -> float:  # noqa: ANN401
    """Return the seconds of an image as LAION's worker has them: encoded once, then no cache of keys and values.

    Each step reads the whole texts again, of the samples that have not ended. So many steps are measured, with all
    rows; a step costs as much for each row later, or a little more.
    """
    import torch  # noqa: PLC0415

    began = clock()
    with torch.inference_mode():
        encoded = network.vision_model(pixel_values=image).last_hidden_state
        encoded = encoded.repeat_interleave(len(lengths), dim=0)
        once = clock() - began
        tokens = words[:, :-1].repeat(len(lengths), 1)
        began = clock()
        for _ in range(steps):
            logits = network.text_decoder(
                input_ids=tokens, encoder_hidden_states=encoded, is_decoder=True, use_cache=False
            ).logits[:, -1]
            drawn = torch.multinomial(logits.softmax(dim=-1), 1)
            tokens = torch.cat([tokens, drawn], dim=-1)
    a_row = (clock() - began) / (steps * len(lengths))
    return once + a_row * sum(lengths)
