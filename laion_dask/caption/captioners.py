"""A loaded captioner of any kind on one device, which gives the samples of a batch of images."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.caption import blip, coca, decoding, image_to_text, model_folders, models
from laion_dask.caption.model_folders import NamedModel
from laion_dask.caption.preparation import ProcessorError, of_processor
from laion_dask.caption.sampler import NO_TOKEN, Draws, Vocabulary
from laion_dask.clip import devices, preprocess
from laion_dask.clip import models as clip_models
from laion_dask.clip.clip import ModelError
from laion_dask.clip.decoded import Stopwatch
from laion_dask.clip.devices import Slices
from laion_dask.clip.preprocess import Preparation
from laion_dask.clip.weights import quiet

ACTIVITIES: Final = ("encode", "generate")
"""What `Captioner.generate` adds to a watch."""

_BATCH: Final = 32
# Two tasks of one process must not load a model twice.
_loading: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Sample:
    """One text that the captioner wrote."""

    text: str
    """Without the prompt, with single spaces."""
    tokens: tuple[int, ...]
    cut: bool
    """It ends at the limit on its tokens."""


@dataclass(frozen=True, slots=True)
class Captioner:
    """A loaded captioner: how it wants its images, and how it writes."""

    settings: params.Caption
    device: str
    preparation: Preparation
    vocabulary: Vocabulary
    tokenizer: Any
    run: Callable[[Any, Draws, Stopwatch], None]
    """Draws all samples of normalised images in the precision of the network; adds to `encode` and `generate`."""
    batch: int = 1
    """Images of one batch."""
    slices: Slices = field(default_factory=lambda: Slices(1))
    """Images of one pass, with all of their samples: a batch, or fewer once memory ran out."""

    def generate(
        self,
        pixels: Any,  # noqa: ANN401 - a torch tensor
        uids: Sequence[str],
        watch: Stopwatch,
    ) -> list[list[Sample]]:
        """Return the samples of each image: pixels are uint8 (images, height, width, 3) on the device."""
        import torch  # noqa: PLC0415

        def forward(places: Any) -> Any:  # noqa: ANN401 - torch tensors
            return self.tokens(pixels[places], [uids[place] for place in places.tolist()], watch)

        with torch.inference_mode():
            tokens = self.slices.run(forward, torch.arange(len(uids))).cpu().tolist()
        return [self._samples(of_image) for of_image in tokens]

    def tokens(self, pixels: Any, uids: Sequence[str], watch: Stopwatch) -> Any:  # noqa: ANN401 - torch tensors
        """Return the tokens of all samples, int64 (images, samples, steps)."""
        draws = Draws(self.settings, self.vocabulary, uids, self.device)
        images = preprocess.normalised(pixels, self.preparation).to(devices.dtype(self.settings.precision))
        self.run(images, draws, watch)
        return draws.tokens.view(len(uids), draws.samples, draws.steps)

    def _samples(self, tokens: Sequence[Sequence[int]]) -> list[Sample]:
        limits = self.settings.max_tokens
        written = [tuple(token for token in row if token != NO_TOKEN) for row in tokens]
        return [
            Sample(self._text(row), row, cut=len(row) == limits[place % len(limits)])
            for place, row in enumerate(written)
        ]

    def _text(self, tokens: Sequence[int]) -> str:
        if self.settings.kind == "coca":
            decoded = self.tokenizer.decode(list(tokens))
        else:
            decoded = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return without_prompt(str(decoded), self.settings.prompt)


def without_prompt(text: str, prompt: str | None) -> str:
    """Return a text with single spaces, and without the prompt where it repeats that at its beginning."""
    words, begin = text.split(), (prompt or "").split()
    if begin and [word.casefold() for word in words[: len(begin)]] == [word.casefold() for word in begin]:
        words = words[len(begin) :]
    return " ".join(words)


def load(settings: params.Caption) -> Captioner:
    """Load the captioner, once for each process. Raises `ModelError`."""
    with _loading:
        return _load(settings)


@functools.cache
def _load(settings: params.Caption) -> Captioner:
    spec = models.of_captioner(settings)
    device = devices.find()
    if isinstance(spec, NamedModel):
        made = _of_transformers(settings, spec, device)
    else:
        made = _of_open_clip(settings, spec, device)
    return _sized(made)


def _of_open_clip(settings: params.Caption, spec: params.Model, device: str) -> Captioner:
    model = clip_models.load(spec)
    vocabulary = coca.vocabulary(model, settings.prompt, max(settings.max_tokens))

    def run(images: Any, draws: Draws, watch: Stopwatch) -> None:  # noqa: ANN401 - torch tensors
        with _encoding(watch, device):
            decoder = coca.CocaDecoder(model.network, images, vocabulary.prompt)
        with watch.measure("generate"):
            decoding.run(decoder, draws, len(images))

    return Captioner(settings, device, model.preparation, vocabulary, model.tokenizer, run)


def _of_transformers(settings: params.Caption, spec: NamedModel, device: str) -> Captioner:
    folder = model_folders.find(spec)
    model_folders.identify(spec)
    try:
        with quiet(), model_folders.no_bars():
            make = _blip if settings.kind == "blip" else _image_to_text
            return make(settings, folder, device)
    except ModelError:
        raise
    except ProcessorError as error:
        raise ModelError(f"{spec.key}: model {spec.known_as}: {error}. Remedy: another model") from error
    except Exception as error:
        # Any exception: transformers wraps errors of its parsers, and damaged files raise all kinds.
        message = (
            f"{spec.key}: model {spec.known_as} of kind {settings.kind} cannot be loaded: "
            f"{error or type(error).__name__}. Remedy: the kind that fits, and a folder as transformers saves "
            "it, with tokenizer and image processor"
        )
        raise ModelError(message) from error


def _blip(settings: params.Caption, folder: Path, device: str) -> Captioner:
    import transformers  # noqa: PLC0415 - seconds

    network = _network(transformers.BlipForConditionalGeneration, settings, folder, device)
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    images: Any = transformers.AutoImageProcessor
    preparation = of_processor(images.from_pretrained(folder))
    vocabulary = blip.vocabulary(network, tokenizer, settings.prompt)
    _check_room(network.config.text_config.max_position_embeddings, vocabulary, settings)
    blip.share_images(network)

    def run(images: Any, draws: Draws, watch: Stopwatch) -> None:  # noqa: ANN401 - torch tensors
        with _encoding(watch, device):
            decoder = blip.BlipDecoder(network, images, vocabulary.prompt)
        with watch.measure("generate"):
            decoding.run(decoder, draws, len(images))

    return Captioner(settings, device, preparation, vocabulary, tokenizer, run)


def _image_to_text(settings: params.Caption, folder: Path, device: str) -> Captioner:
    import transformers  # noqa: PLC0415 - seconds

    network = _network(transformers.AutoModelForImageTextToText, settings, folder, device)
    processors: Any = transformers.AutoProcessor
    processor = processors.from_pretrained(folder)
    preparation = of_processor(processor.image_processor)
    vocabulary = image_to_text.vocabulary(network, processor, settings.prompt)
    beside = image_to_text.prompted(network, processor, settings.prompt)

    def run(images: Any, draws: Draws, watch: Stopwatch) -> None:  # noqa: ANN401 - torch tensors
        with watch.measure("generate"):  # which encodes too
            image_to_text.generate(network, images, beside, draws)

    return Captioner(settings, device, preparation, vocabulary, processor.tokenizer, run)


def _network(kind: Any, settings: params.Caption, folder: Path, device: str) -> Any:  # noqa: ANN401 - of transformers
    """Load a network from safetensors; raises ValueError where the file lacks weights, which would be random."""
    network, loaded = kind.from_pretrained(
        folder,
        dtype=devices.dtype(settings.precision),
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    if missing := sorted(loaded["missing_keys"]):
        message = f"its weights lack {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}"
        raise ValueError(message)
    return network.to(device).eval().requires_grad_(requires_grad=False)


@contextmanager
def _encoding(watch: Stopwatch, device: str) -> Iterator[None]:
    """Add the time of the block to `encode`: on a GPU until its work is done."""
    with watch.measure("encode"):
        yield
        if device == "cuda":
            import torch  # noqa: PLC0415

            torch.cuda.synchronize()


def _check_room(positions: int, vocabulary: Vocabulary, settings: params.Caption) -> None:
    room = positions - len(vocabulary.prompt)
    if max(settings.max_tokens) > room:
        message = (
            f"caption.max_tokens: {max(settings.max_tokens)} tokens and the prompt are more than the model can write. "
            f"Remedy: {room} or fewer"
        )
        raise ModelError(message)


def _sized(made: Captioner) -> Captioner:
    """Choose the images of one pass: the parameter, or 32, or on a GPU by its memory."""
    rows = made.settings.batch or _BATCH
    if made.settings.batch is None and made.device != "cpu":
        import torch  # noqa: PLC0415

        def forward(blank: Any) -> Any:  # noqa: ANN401 - torch tensors
            return made.tokens(blank, ["probe"] * len(blank), Stopwatch(*ACTIVITIES))

        with torch.inference_mode():
            blank = devices.pixel_buffer(1, made.preparation.side, made.device).fill_(128)
            rows = devices.rows_that_fit(forward, devices.upload(blank, made.device), made.device)
    return replace(made, batch=rows, slices=Slices(rows))
