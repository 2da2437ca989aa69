"""Models by name: what is loaded is what was asked for, and what is missing or dangerous is refused with the remedy."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from made.images import small_clips
from made.places import ROOT
from made.processes import programs
from PIL import Image

from laion_dask import params
from laion_dask.clip import clip, hub, models, weights
from laion_dask.clip.clip import ModelError
from laion_dask.score import required_files
from laion_dask.storage.files import sha256


def spec(model: str, **values: Any) -> params.Model:  # noqa: ANN401 - as in params.yaml
    return params.Model(name="one", model=model, **values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clips.folder(tmp_path_factory.mktemp("models") / "one", seed=1)


def refusal(wanted: params.Model) -> str:
    with pytest.raises(ModelError) as refused:
        models.load(wanted)
    return str(refused.value)


def test_a_local_folder_gives_unit_embeddings_and_the_digest_of_its_file(folder: Path) -> None:
    model = models.load(spec(f"local-dir:{folder}"))
    image, text = model.embed([Image.new("RGB", (60, 90), "red")], ["a red star", "nothing"])
    assert (image.shape, text.shape) == ((1, 32), (2, 32))
    assert np.allclose(np.linalg.norm(np.concatenate([image, text]), axis=1), 1, atol=1e-6)
    assert model.weights_sha256 == sha256(folder / "open_clip_model.safetensors")
    about = models.about(spec(f"local-dir:{folder}", splits=["en", "multi"]), model)
    assert about["weights_sha256"] == model.weights_sha256
    assert about["splits"] == "en,multi"
    assert json.loads(about["preprocessing"])["size"] == [48, 48]


def test_a_checkpoint_of_tensors_gives_the_same_embeddings_as_safetensors(folder: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    shutil.copytree(folder, tmp_path / "pt")
    weights = load_file(folder / "open_clip_model.safetensors")
    (tmp_path / "pt" / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": weights}, tmp_path / "pt" / "open_clip_pytorch_model.bin")
    picture = [Image.new("RGB", (60, 90), "blue")]
    first, second = (models.load(spec(f"local-dir:{path}")).embed(picture, ["x"]) for path in (folder, tmp_path / "pt"))
    assert all(np.array_equal(one, two) for one, two in zip(first, second, strict=True))


def test_of_several_weights_in_a_folder_the_digest_is_of_those_that_open_clip_loads(tmp_path: Path) -> None:
    from open_clip.factory import _find_checkpoint_in_dir

    for names in (["a.bin", "model.pth", "z.safetensors"], ["b.pth", "a.bin"], ["model.safetensors", "a.safetensors"]):
        place = tmp_path / names[0]
        place.mkdir()
        (place / "open_clip_config.json").write_text("{}")
        for name in names:
            (place / name).write_bytes(b"\x80" + name.encode())
        assert weights.find(spec(f"local-dir:{place}")) == Path(_find_checkpoint_in_dir(place))


class Malicious:
    """What a pickle can do: name any function to be called when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("by", ["pickle", "torch"])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(folder: Path, tmp_path: Path, by: str) -> None:
    import torch

    place = tmp_path / "bad"
    place.mkdir()
    shutil.copy(folder / "open_clip_config.json", place)
    shutil.copy(folder / "bpe.txt.gz", place)
    mark, file = tmp_path / "was_run", place / "open_clip_pytorch_model.bin"
    content = {"state_dict": Malicious(mark)}
    if by == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    message = refusal(spec(f"local-dir:{place}"))
    assert "is refused: it holds more than tensors" in message
    assert str(file) in message
    assert "Remedy: weights as .safetensors" in message
    assert not mark.exists()


def test_other_weights_than_expected_are_refused_before_they_are_read(folder: Path, tmp_path: Path) -> None:
    digest = sha256(folder / "open_clip_model.safetensors")
    assert weights.identify(spec(f"local-dir:{folder}", expect_sha256=digest)) == digest
    place = tmp_path / "changed"
    shutil.copytree(folder, place)
    with (place / "open_clip_model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    message = refusal(spec(f"local-dir:{place}", expect_sha256=digest))
    assert f"expected is {digest}" in message
    assert sha256(place / "open_clip_model.safetensors") in message


@pytest.fixture(scope="module")
def refused_without_a_hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process that reaches no hub is told of two models, and for how many seconds each would have waited."""
    program = """if True:
        import json, sys, time
        import open_clip
        from laion_dask import params
        from laion_dask.clip import weights
        from laion_dask.clip.clip import ModelError
        told, waits = {}, []
        time.sleep = waits.append
        for model, pretrained in json.loads(sys.argv[1]):
            waits.clear()
            try:
                weights.find(params.Model(name="one", model=model, pretrained=pretrained))
            except ModelError as error:
                told[model] = (str(error), sum(waits))
        print(json.dumps(told))
    """
    place = tmp_path_factory.mktemp("no hub")
    with socket.socket() as closed:
        # Bound and not listening: whoever asks is refused.
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        asked = [("ViT-B-32", "laion2b_s34b_b79k"), ("hf-hub:nobody/nothing", None)]
        hub_of_test = {"HF_ENDPOINT": address, "HF_HOME": str(place), "HF_HUB_CACHE": str(place / "hub")}
        ended = programs.finished(
            [sys.executable, "-c", program, json.dumps(asked)],
            # However late a busy machine is, it is told that nobody listens.
            env=os.environ | hub_of_test | {"HF_HUB_ETAG_TIMEOUT": "250"},
            cwd=ROOT,
            check=True,
        )
    return {"told": json.loads(ended.stdout), "said": ended.stderr, "cache": str(place / "hub"), "hub": address}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (
            "ViT-B-32",
            [
                "the weights laion/CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_model.safetensors ",
                "(tag laion2b_s34b_b79k)",
                "python -c \"import open_clip; open_clip.create_model('ViT-B-32', pretrained='laion2b_s34b_b79k')\"",
            ],
        ),
        (
            "hf-hub:nobody/nothing",
            [
                "the weights nobody/nothing/open_clip_model.safetensors ",
                "(tag hf-hub:nobody/nothing)",
                "`hf download nobody/nothing --local-dir FOLDER`",
                "give local-dir:FOLDER as the model",
            ],
        ),
    ],
)
def test_without_a_network_the_error_names_file_tag_and_the_command_that_fetches_and_comes_at_once(
    refused_without_a_hub: dict[str, Any], model: str, named: list[str]
) -> None:
    message, waited_s = refused_without_a_hub["told"][model]
    for words in (
        "are not on this machine and cannot be fetched",
        f"{refused_without_a_hub['hub']} gave no answer: ",
        f"copy the files to {refused_without_a_hub['cache']} here",
        *named,
    ):
        assert words in message
    file = named[0].removeprefix("the weights ").strip()
    assert f"fetching {file} from {refused_without_a_hub['hub']}\n" in refused_without_a_hub["said"]
    # The hub's own client would try again and again, and wait for 46 s.
    assert waited_s == 0


@pytest.mark.slow
def test_a_hub_that_takes_the_call_and_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)

        def wanted() -> None:
            raise LocalEntryNotFoundError("not in the cache")

        with pytest.raises(hub.HubError, match=rf"{address} gave no answer"):
            hub.cached_or_fetched(wanted, "weights")


@pytest.fixture
def closed_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that nobody reaches, and an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.usefixtures("closed_hub")
def test_a_tokenizer_of_the_hub_that_is_missing_is_told_before_a_cluster_starts(tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(b"\x80 read later")
    wanted = spec("xlm-roberta-base-ViT-B-32", pretrained=str(checkpoint))
    with pytest.raises(ModelError) as refused:
        required_files.find(
            params.Score(
                models=[wanted], heads=[], tags=[], faces=None, masked_text=None, batch=8, decode="full", compile="none"
            )
        )
    message = str(refused.value)
    for words in (
        "model 'xlm-roberta-base-ViT-B-32'",
        "its tokenizer xlm-roberta-base is not on this machine and cannot be fetched",
        "`hf download xlm-roberta-base --include",
        f"to {tmp_path / 'hub'} here",
    ):
        assert words in message


@pytest.mark.usefixtures("closed_hub")
def test_a_folder_whose_tokenizer_is_not_in_it_is_told_before_a_cluster_starts(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "other"
    shutil.copytree(folder, place)
    config = json.loads((place / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "nobody/nothing"
    (place / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"other has no tokenizer that can be read: .*Remedy: its files"):
        weights.fetch_tokenizer(spec(f"local-dir:{place}"))


@pytest.mark.parametrize("model", ["demo", "ViT-B-32", "no such model"])
@pytest.mark.usefixtures("closed_hub")
def test_models_with_open_clips_own_tokenizer_need_nothing_beside_their_weights(model: str) -> None:
    weights.fetch_tokenizer(spec(model))


def test_weights_in_the_hubs_cache_are_found_without_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants

    # Names of the hub come with open_clip's own tokenizer.
    folder = small_clips.folder(tmp_path / "full", seed=1, vocab_size=49_408)
    cached = tmp_path / "models--nobody--something"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    shutil.copytree(folder, cached / "snapshots" / ("0" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # A request would end here.
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    model = models.load(spec("hf-hub:nobody/something"))
    assert model.weights_sha256 == sha256(folder / "open_clip_model.safetensors")
    assert "fetching" not in capfd.readouterr().err
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("model", "pretrained", "named"),
    [
        ("ViT-B-32", None, "no weights are named, so they would be random. Remedy: pretrained with a tag"),
        ("ViT-B-32", "laion9b", "neither a file nor a tag of this model. Remedy: one of openai, "),
        ("ViT-Z-99", "openai", "neither a file nor a tag of this model. Remedy: a model of open_clip.list_models()"),
        (
            "local-dir:nowhere",
            None,
            "nowhere/open_clip_model.safetensors is missing. Remedy: a folder as open_clip saves",
        ),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "trained without QuickGELU. Remedy: model ViT-B-32"),
    ],
)
def test_a_name_that_stands_for_no_weights_is_refused_with_the_remedy(
    model: str, pretrained: str | None, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "quickgelu" in model:
        # The file is there; the architecture does not fit it.
        monkeypatch.setattr(weights, "identify", lambda _: "0" * 64)
    monkeypatch.chdir(tmp_path)
    assert named in refusal(spec(model, pretrained=pretrained))


def test_weights_of_another_architecture_are_refused(folder: Path) -> None:
    file = folder / "open_clip_model.safetensors"
    message = refusal(spec("RN50", pretrained=str(file)))
    assert f"model 'RN50', pretrained '{file}' cannot be loaded" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", [b"", b"url,text\n", b"<html>", b"\x80", b"\x80\x02}q\x00", b"PK\x03\x04", bytes(8) + b"{"]
)
def test_a_file_that_holds_no_weights_is_refused_with_the_remedy(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    message = refusal(spec("RN50", pretrained=str(file)))
    assert f"model 'RN50', pretrained '{file}'" in message
    assert "Remedy: " in message
    if not content.startswith((b"\x80", b"PK")) and content[8:] != b"{":
        with pytest.raises(models.ModelError, match="is not a file of weights"):
            weights.find(spec("RN50", pretrained=str(file)))


def test_openais_weights_get_the_activation_that_they_were_trained_with() -> None:
    assert models._trained_with_quick_gelu(spec("ViT-B-32", pretrained="openai"))  # noqa: SLF001 - needs no weights
    assert not models._trained_with_quick_gelu(spec("ViT-B-32", pretrained="laion2b_s34b_b79k"))  # noqa: SLF001
    assert not models._trained_with_quick_gelu(spec("ViT-B-32-quickgelu", pretrained="openai"))  # noqa: SLF001


def test_values_that_are_not_finite_are_an_error_and_no_score(folder: Path) -> None:
    import torch

    model = models.load(spec(f"local-dir:{folder}"))
    with pytest.raises(ModelError, match=r"not finite or not of unit length\. Remedy: in fp16"):
        model.rows(torch.full((2, 32), float("nan")))
    with pytest.raises(ModelError, match=r"embeddings of shape \(2, 31\), not \(rows, 32\)"):
        model.rows(torch.nn.functional.normalize(torch.ones(2, 31)))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_near_full_precision(folder: Path, precision: str) -> None:
    pictures = [Image.new("RGB", (60, 90), color) for color in ("red", "green", "blue")]
    texts = ["a red star", "a green square", "IMG_1"]
    full, half = (
        models.load(spec(f"local-dir:{folder}", precision=p)).embed(pictures, texts) for p in ("fp32", precision)
    )
    cosines = [np.einsum("ij,ij->i", image, text) for image, text in (full, half)]
    assert np.allclose(*cosines, atol=2e-2)
    assert clip.DEMO_MODEL.is_dir()


@pytest.fixture(scope="module", params=["ViT-B-32-like", "demo"])
def model(request: pytest.FixtureRequest, folder: Path) -> clip.Clip:
    return models.load(spec("demo" if request.param == "demo" else f"local-dir:{folder}"))


class TestShortTexts:
    TEXTS = ("", "a red star", "IMG_2041.JPG", "one two three four five six seven eight nine ten " * 9, "ein Haus")

    def test_positions_behind_the_longest_text_are_left_out_and_change_nothing(self, model: clip.Clip) -> None:
        import torch

        assert model.cut_texts
        for texts in (self.TEXTS[:3], self.TEXTS, self.TEXTS[:1]):
            tokens = model.tokens(texts)
            with torch.inference_mode():
                wanted = model.network.encode_text(model.tokenizer(list(texts)), normalize=True).numpy()
            assert np.allclose(model.rows(model.read(tokens)), wanted, atol=1e-6)
        assert model.tokens(self.TEXTS[:3]).shape[1] < model.tokens(self.TEXTS).shape[1] == model.network.context_length

    def test_a_tower_that_looks_behind_the_end_of_a_text_is_not_cut(self, folder: Path) -> None:
        import copy

        import torch

        from laion_dask.clip import text_tower

        model = models.load(spec(f"local-dir:{folder}"))
        assert text_tower.can_be_cut(model.network, model.tokenizer)
        changed = copy.deepcopy(model.network)
        changed.attn_mask = torch.zeros_like(changed.attn_mask)
        assert not text_tower.can_be_cut(changed, model.tokenizer)
        changed = copy.deepcopy(model.network)
        changed.text_pool_type = "last"
        assert not text_tower.can_be_cut(changed, model.tokenizer)
        del changed.ln_final
        assert not text_tower.can_be_cut(changed, model.tokenizer)
