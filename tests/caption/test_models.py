"""The models of captioning: found before a cluster starts, identified by their sha256, described without paths."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from made.images import small_captioners
from made.images.small_captioners import settings

from laion_dask.caption import model_folders, models
from laion_dask.clip import weights
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.storage.files import sha256


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is looked at: nothing is loaded here."""
    folder = tmp_path_factory.mktemp("models") / "captioner"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "vocab.txt").write_text("a\n")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: bsd-3-clause\n---\n# A captioner\n")
    return folder


def test_a_model_is_described_by_name_sha256_licence_and_precision_without_its_path(folder: Path) -> None:
    repair = {"model": f"local-dir:{folder}", "prompt": "fix: "}
    rank = [
        {"name": "first", "model": "demo", "keep": 2, "precision": "bf16"},
        {"name": "second", "model": f"local-dir:{DEMO_MODEL}", "keep": 1},
    ]
    about = models.about(settings(f"local-dir:{folder}", precision="bf16", rank=rank, repair=repair))
    digest = hashlib.sha256(b"weights").hexdigest()
    demo = sha256(weights.find(small_captioners.settings("demo").rank[0]))
    own = {"model": "local-dir:captioner", "weights_sha256": digest, "licence": "bsd-3-clause"}
    assert about == {
        **own,
        "kind": "blip",
        "precision": "bf16",
        "rank": [
            {"model": "demo", "weights_sha256": demo, "licence": "unknown", "precision": "bf16", "keep": 2},
            {"model": "local-dir:model", "weights_sha256": demo, "licence": "unknown", "precision": "fp32", "keep": 1},
        ],
        "repair": own,
    }
    assert str(folder.parent) not in json.dumps(about)


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        (None, "unknown"),
        ("# none\nlicense: mit\n", "unknown"),
        ("---\ntags: []\n---\nlicense: mit\n", "unknown"),
        ("---\nlicense: [mit\n---\n", "unknown"),
        ("---\nlicense:\n- mit\n- cc-by-4.0\n---\n", "mit, cc-by-4.0"),
        ("---\nlicense: 'mit'\n---\n", "mit"),
    ],
)
def test_the_licence_is_that_of_the_cards_front_matter(
    folder: Path, tmp_path: Path, card: str | None, licence: str
) -> None:
    copy = shutil.copytree(folder, tmp_path / "c")
    (copy / "README.md").unlink()
    if card is not None:
        (copy / "README.md").write_text(card)
    assert models.about(settings(f"local-dir:{copy}"))["licence"] == licence


def test_a_captioner_of_open_clip_has_a_licence_too_as_the_report_asks_for_one() -> None:
    about = models.about(settings(f"local-dir:{DEMO_MODEL}", kind="coca"))
    assert (about["model"], about["licence"]) == ("local-dir:model", "unknown")


def test_weights_in_several_files_are_identified_by_all_of_them(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "c")
    (copy / "model.safetensors").rename(copy / "b.safetensors")
    (copy / "a.safetensors").write_bytes(b"more")
    (copy / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"y": "b.safetensors", "x": "a.safetensors", "z": "b.safetensors"}})
    )
    spec = model_folders.NamedModel("caption.model", f"local-dir:{copy}", None)
    digests = [hashlib.sha256(body).hexdigest() for body in (b"more", b"weights")]
    assert model_folders.identify(spec) == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    (copy / "a.safetensors").unlink()
    with pytest.raises(ModelError, match=r"a\.safetensors is missing"):
        model_folders.find(spec)


def test_what_decides_the_captions_changes_with_each_file_of_a_model(folder: Path, tmp_path: Path) -> None:
    from laion_dask.storage.files import digest

    copy = shutil.copytree(folder, tmp_path / "c")
    rules = settings(f"local-dir:{copy}")
    found = {digest(models.deciding(rules))}
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (copy / name).write_text(f"another {name}")
        found.add(digest(models.deciding(rules)))
    assert len(found) == 4
    (copy / "README.md").write_text("the card does not")
    assert digest(models.deciding(rules)) in found


class TestRefused:
    @pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
    def test_a_folder_without_a_file_is_named_with_the_file(self, folder: Path, tmp_path: Path, missing: str) -> None:
        copy = shutil.copytree(folder, tmp_path / "c")
        (copy / missing).unlink()
        (copy / "pytorch_model.bin").write_bytes(b"a pickle")
        with pytest.raises(ModelError, match=f"caption.model: model 'local-dir:.*{missing} is missing. Remedy: a fol"):
            models.find(settings(f"local-dir:{copy}"))

    def test_other_weights_than_expected_are_refused(self, folder: Path) -> None:
        with pytest.raises(ModelError, match=f"expected is {'a' * 64}. Remedy: fetch them again"):
            models.deciding(settings(f"local-dir:{folder}", expect_sha256="a" * 64))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"model": "blip-large"}, "caption.model: model 'blip-large': no such model. Remedy: demo, local-dir:PATH"),
            ({"kind": "coca"}, "the demo's captioner is of kind blip"),
            ({"kind": "coca", "model": "coca_ViT-L-14"}, "caption, captioner: model 'coca_ViT-L-14': no weights are n"),
        ],
    )
    def test_a_name_that_is_none_is_refused(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(ModelError, match=message):
            models.find(settings(**{"model": "demo"} | values))

    def test_a_ranker_that_is_missing_is_named_by_its_key(self, folder: Path, tmp_path: Path) -> None:
        rank = [{"name": "vit", "model": f"local-dir:{tmp_path}", "keep": 1}]
        with pytest.raises(ModelError, match=r"caption\.rank, vit: model"):
            models.find(settings(f"local-dir:{folder}", rank=rank))

    def test_a_model_of_the_hub_that_cannot_be_fetched_is_named_with_the_command(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError) as refused:
            models.find(settings("hf-hub:someone/blip"))
        said = str(refused.value)
        assert "model 'hf-hub:someone/blip': someone/blip/model.safetensors is not on" in said
        assert "run `hf download someone/blip --include '*.json'" in said
