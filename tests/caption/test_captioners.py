"""Captioners of each kind: the same texts in batches of any size, the library's own texts where nothing is random."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from made.images import small_captioners, small_clips
from made.images.small_captioners import settings
from safetensors.torch import load_file, save_file

from laion_dask import params
from laion_dask.caption import captioners, decoding
from laion_dask.caption.captioners import Captioner, without_prompt
from laion_dask.clip import preprocess
from laion_dask.clip.clip import ModelError
from laion_dask.clip.decoded import Stopwatch

KINDS = ("blip", "image_to_text", "coca")
UIDS = [f"{n:032x}" for n in range(7)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    base = tmp_path_factory.mktemp("captioners")
    makers: dict[str, Callable[[Path], Path]] = {
        "blip": small_captioners.blip,
        "image_to_text": small_captioners.blip2,
        "coca": small_captioners.coca,
    }
    return {kind: make(base / kind) for kind, make in makers.items()}


def rules(folders: Mapping[str, Path], kind: str, **values: Any) -> params.Caption:  # noqa: ANN401
    return settings(f"local-dir:{folders[kind]}", kind=kind, **values)


def pixels(captioner: Captioner, count: int = len(UIDS)) -> torch.Tensor:
    rooms = np.empty((count, *captioner.preparation.side, 3), np.uint8)
    for number in range(count):
        image = preprocess.decode(small_clips.jpeg(number))
        preprocess.prepare(image, [captioner.preparation], [rooms[number]])
    return torch.from_numpy(rooms)


def written(captioner: Captioner, images: torch.Tensor, uids: list[str]) -> list[list[tuple[int, ...]]]:
    samples = captioner.generate(images, uids, Stopwatch(*captioners.ACTIVITIES))
    return [[one.tokens for one in of_image] for of_image in samples]


@pytest.mark.parametrize("kind", KINDS)
def test_the_samples_of_an_image_do_not_depend_on_its_batch(folders: Mapping[str, Path], kind: str) -> None:
    captioner = captioners.load(rules(folders, kind, max_tokens=[4, 9, 6], end_above=0.2, repetition_penalty=1.2))
    images = pixels(captioner)
    whole = written(captioner, images, UIDS)
    for size in (1, 3):
        batches = [slice(at, at + size) for at in range(0, len(UIDS), size)]
        assert [one for part in batches for one in written(captioner, images[part], UIDS[part])] == whole
    assert len({str(one) for one in whole}) > 1, "another image has other samples"
    assert any(len(set(one)) > 1 for one in whole), "the samples of an image differ"
    shuffled = [UIDS[place] for place in (3, 0, 1, 2)]
    assert written(captioner, images[:4], shuffled) != whole[:4], "they follow the uid"


@pytest.mark.parametrize("kind", ["blip", "coca"])
def test_rows_that_have_ended_are_taken_out_without_a_change(
    folders: Mapping[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = captioners.load(rules(folders, kind, max_tokens=[2, 9, 3, 1], samples=6, min_tokens=0, top_p=0.9))
    images = pixels(captioner)
    kept: list[int] = []
    real = decoding.without_ended

    def counting(*arguments: Any) -> Any:  # noqa: ANN401 - as decoding has it
        found = real(*arguments)
        kept.append(found[0].numel())
        return found

    monkeypatch.setattr(decoding, "without_ended", counting)
    monkeypatch.setattr(decoding, "_WORTH_IT", 0.0)
    whole = written(captioner, images, UIDS)
    assert set(kept) == {len(UIDS) * 6}
    kept.clear()
    monkeypatch.setattr(decoding, "_WORTH_IT", 1.0)
    assert written(captioner, images, UIDS) == whole
    assert min(kept) <= len(UIDS) * 2


class TestGreedy:
    """With top_k = 1 nothing is random."""

    def test_blip_writes_what_transformers_own_generate_writes(self, folders: Mapping[str, Path]) -> None:
        captioner = captioners.load(rules(folders, "blip", top_k=1, min_tokens=0, max_tokens=[9]))
        network: Any = transformers.BlipForConditionalGeneration.from_pretrained(folders["blip"]).eval()
        images = pixels(captioner)
        words = captioner.tokenizer(["a picture of "] * len(UIDS), return_tensors="pt").input_ids
        wanted = network.generate(
            pixel_values=preprocess.normalised(images, captioner.preparation),
            input_ids=words,
            do_sample=False,
            max_new_tokens=9,
        )
        for row, of_image in zip(wanted.tolist(), written(captioner, images, UIDS), strict=True):
            tokens = [one for one in row[words.shape[1] - 1 :] if one not in {0, 3}]
            assert [list(one) for one in of_image] == [tokens] * 4

    def test_blip_2_writes_what_its_own_generate_writes(self, folders: Mapping[str, Path]) -> None:
        captioner = captioners.load(rules(folders, "image_to_text", top_k=1, min_tokens=0, max_tokens=[5]))
        network: Any = transformers.Blip2ForConditionalGeneration.from_pretrained(folders["image_to_text"]).eval()
        processor: Any = transformers.AutoProcessor.from_pretrained(folders["image_to_text"])
        images = pixels(captioner, 2)
        inputs = processor(images=[np.zeros((32, 32, 3), np.uint8)] * 2, text=["a picture of"] * 2, return_tensors="pt")
        # BERT's tokenizer ends the prompt: a caption would not go on behind that.
        inputs = {name: inputs[name][:, :-1] for name in ("input_ids", "attention_mask")}
        inputs["pixel_values"] = preprocess.normalised(images, captioner.preparation)
        wanted = network.generate(**inputs, do_sample=False, max_new_tokens=5)
        new = wanted[:, inputs["input_ids"].shape[1] :].tolist()
        for row, of_image in zip(new, written(captioner, images, UIDS[:2]), strict=True):
            assert list(of_image[0]) == [one for one in row if one not in {0, 3}]
            assert of_image[0]

    def test_coca_writes_what_its_whole_forward_pass_finds_most_likely(self, folders: Mapping[str, Path]) -> None:
        captioner = captioners.load(rules(folders, "coca", top_k=1, min_tokens=0, max_tokens=[6]))
        # Its own generate needs an older transformers.
        network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folders['coca']}")
        images = pixels(captioner, 3)
        prepared = preprocess.normalised(images, captioner.preparation)
        words = torch.tensor(captioner.vocabulary.prompt).repeat(3, 1)
        begin = words.shape[1]
        with torch.inference_mode():
            for _ in range(6):
                logits = network.eval()(prepared, words, output_labels=False)["logits"][:, -1]
                words = torch.cat([words, logits.argmax(dim=-1, keepdim=True)], dim=-1)
        for row, of_image in zip(words[:, begin:].tolist(), written(captioner, images, UIDS[:3]), strict=True):
            end = captioner.vocabulary.ends[0]
            assert list(of_image[0]) == (row[: row.index(end)] if end in row else row)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_encoded_once_for_all_of_its_samples(folders: Mapping[str, Path], kind: str) -> None:
    captioner = captioners.load(rules(folders, kind, samples=5))
    rows: list[int] = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, _: rows.append(len(inputs[0])) if isinstance(module, torch.nn.Conv2d) else None
    )
    written(captioner, pixels(captioner, 3), UIDS[:3])
    hook.remove()
    assert rows == [3], "the first layer of the image's encoder saw each image once"


def test_pixels_are_those_of_blips_image_processor_bit_for_bit(folders: Mapping[str, Path]) -> None:
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    captioner = captioners.load(rules(folders, "blip"))
    processor: Any = BlipImageProcessorPil(size={"height": 32, "width": 32})
    ours = preprocess.normalised(pixels(captioner), captioner.preparation)
    for number, row in enumerate(ours):
        image = preprocess.decode(small_clips.jpeg(number))
        theirs = torch.as_tensor(processor(images=image, return_tensors="pt")["pixel_values"])
        assert torch.allclose(row, theirs[0], atol=1e-6)


def test_out_of_memory_halves_the_images_of_a_pass_and_is_remembered(
    folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = captioners.load(rules(folders, "blip", seed=99))
    images = pixels(captioner)
    whole = written(captioner, images, UIDS)
    sizes: list[int] = []
    real = Captioner.tokens

    def small(self: Captioner, chunk: Any, *others: Any) -> Any:  # noqa: ANN401 - torch tensors
        sizes.append(len(chunk))
        if len(chunk) > 2:
            raise torch.OutOfMemoryError
        return real(self, chunk, *others)

    monkeypatch.setattr(Captioner, "tokens", small)
    assert written(captioner, images, UIDS) == whole
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert captioner.slices.rows == 1
    assert captioner.batch == 8, "batches stay, so that the bytes of a part do not depend on the one before"


@pytest.mark.parametrize(
    ("text", "prompt", "wanted"),
    [
        ("  a  red\nstar ", None, "a red star"),
        ("a picture of a star", "a picture of ", "a star"),
        ("A picture OF a star", "a picture of ", "a star"),
        ("a picture", "a picture of ", "a picture"),
        ("a picture of", "a picture of ", ""),
    ],
)
def test_spaces_are_single_and_the_prompt_is_no_part_of_a_caption(text: str, prompt: str | None, wanted: str) -> None:
    assert without_prompt(text, prompt) == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_captioner_writes_without_a_prompt_too(folders: Mapping[str, Path], kind: str) -> None:
    captioner = captioners.load(rules(folders, kind, prompt=None, repetition_penalty=1.5, samples=3))
    found = written(captioner, pixels(captioner, 2), UIDS[:2])
    assert {len(one) for of_image in found for one in of_image} <= set(range(2, 7))


@pytest.mark.parametrize(("kind", "most"), [("blip", 36), ("coca", 21)])
def test_the_longest_caption_that_is_not_refused_can_be_written(
    folders: Mapping[str, Path], kind: str, most: int
) -> None:
    captioner = captioners.load(rules(folders, kind, max_tokens=[most], min_tokens=most, samples=1))
    assert [len(one[0]) for one in written(captioner, pixels(captioner, 1), UIDS[:1])] == [most]
    with pytest.raises(ModelError, match=f"Remedy: {most} or fewer"):
        captioners.load(rules(folders, kind, max_tokens=[most + 1], samples=1))


class TestRefused:
    def test_weights_that_are_missing_in_the_file_are_not_replaced_by_random_ones(
        self, folders: Mapping[str, Path], tmp_path: Path
    ) -> None:
        folder = shutil.copytree(folders["blip"], tmp_path / "blip")
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if "crossattention" in name)
        del weights[name]
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"caption.model: model local-dir:blip .* its weights lack .*crossatt"):
            captioners.load(settings(f"local-dir:{folder}"))

    def test_an_image_processor_that_does_more_is_refused(self, folders: Mapping[str, Path], tmp_path: Path) -> None:
        folder = shutil.copytree(folders["blip"], tmp_path / "blip")
        other = transformers.BlipImageProcessor(size={"height": 32, "width": 32}, do_rescale=False)
        other.save_pretrained(folder)
        with pytest.raises(ModelError, match="its image processor gives other pixels, off by up to"):
            captioners.load(settings(f"local-dir:{folder}"))

    @pytest.mark.parametrize(
        ("kind", "folder", "values", "message"),
        [
            ("blip", "image_to_text", {}, "of kind blip cannot be loaded"),
            ("blip", "blip", {"max_tokens": [99]}, "caption.max_tokens: 99 tokens and the prompt are more than"),
            (
                "coca",
                "coca",
                {"max_tokens": [30]},
                "are more than .* can write. Remedy: 21 or fewer",
            ),
        ],
    )
    def test_a_model_that_does_not_fit_the_parameters_is_refused(
        self, folders: Mapping[str, Path], kind: str, folder: str, values: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ModelError, match=message):
            captioners.load(settings(f"local-dir:{folders[folder]}", kind=kind, **values))

    def test_a_clip_without_a_text_decoder_is_no_coca(self) -> None:
        from laion_dask.clip.clip import DEMO_MODEL

        with pytest.raises(ModelError, match="is no CoCa"):
            captioners.load(settings(f"local-dir:{DEMO_MODEL}", kind="coca"))
