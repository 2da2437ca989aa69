"""Measures of text: the published figures of LAION-400M and LAION-2B-en, and a small real classifier."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from laion_dask.audit import hate, text_models
from laion_dask.audit.hate import ContentShare
from laion_dask.audit.text_models import TextModelError
from laion_dask.cli.main import app

# arXiv 2311.03449 and the CSV of its code: 32 and 128 files of 100,000 captions, shares in percent.
FILES = {"400M": 32, "2B-en": 128}
PUBLISHED = {
    ("400M", "any"): (0.29791, 0.29199, 0.30394),
    ("2B-en", "any"): (0.34438, 0.34119, 0.34761),
}
KINDS = ("hateful", "targeted", "aggressive")


def published(name: str) -> ContentShare:
    total = FILES[name] * hate.CAPTIONS_A_FILE
    return hate.share("any", round(PUBLISHED[name, "any"][0] / 100 * total), total)


@pytest.mark.parametrize("name", FILES)
def test_the_published_rates_have_the_published_intervals(name: str) -> None:
    found = published(name)
    assert found.rate is not None
    assert (100 * found.rate, 100 * found.low, 100 * found.high) == pytest.approx(PUBLISHED[name, "any"], abs=1.1e-5)


def test_the_12_percent_is_the_gap_between_the_intervals() -> None:
    before, after = published("400M"), published("2B-en")
    assert 100 * hate.rise(before, after) == pytest.approx(12.26, abs=0.01)
    assert before.rate is not None
    assert after.rate is not None
    assert 100 * (after.rate / before.rate - 1) == pytest.approx(15.6, abs=0.05)


def test_any_counts_a_caption_once_and_thresholds_are_strict() -> None:
    counts = hate.Counts(KINDS)
    counts.add(np.array([[0.9, 0.9, 0.1], [0.5, 0.5, 0.5], [0.1, 0.1, 0.6], [0.0, 0.0, 0.0]], np.float32))
    counts.add(np.array([[0.3, 0.1, 0.1]], np.float32))
    assert [(one.kind, one.count, one.total) for one in counts.shares()] == [
        ("hateful", 1, 5),
        ("targeted", 1, 5),
        ("aggressive", 1, 5),
        ("any", 2, 5),
    ]
    assert [counts.shares(threshold)[-1].count for threshold in hate.THRESHOLDS] == [4, 3, 3, 2, 1, 1, 1]
    assert hate.Counts(KINDS).shares()[0] == ContentShare.of(0, 0, kind="hateful", threshold=0.5)


def test_captions_are_drawn_without_replacement_from_one_generator() -> None:
    first, second, small = hate.draws([1000, 1000, 5], each=100)
    assert len(set(first.tolist())) == len(first) == 100
    assert first.tolist() != second.tolist()
    assert small.tolist() == [0, 1, 2, 3, 4]
    np.random.seed(42)  # noqa: NPY002 - as the authors do
    assert sorted(np.random.choice(1000, 100, replace=False).tolist()) == first.tolist()  # noqa: NPY002


@pytest.fixture(scope="module")
def toxic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of seven outputs that nobody has trained, with a vocabulary of a few words."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    folder = tmp_path_factory.mktemp("toxic")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "fox"]
    (folder / "vocab.txt").write_text("\n".join(words))
    labels = dict(enumerate(reversed(text_models.KINDS["toxicity"])))
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=7, id2label=labels, label2id={label: place for place, label in labels.items()},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def test_a_local_classifier_scores_each_kind_by_the_name_of_its_output(toxic: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = text_models.load("toxicity", toxic)
    found = model.score(["a red fox", "fox"])
    bare = AutoModelForSequenceClassification.from_pretrained(toxic).eval()
    inputs = AutoTokenizer.from_pretrained(toxic)(["a red fox", "fox"], return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = torch.sigmoid(bare(**inputs).logits).numpy()[:, ::-1]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert model.kinds[0] == "toxicity"
    assert model.score([]).shape == (0, 7)


def test_the_command_samples_released_tables_and_prints_shares_with_intervals(toxic: Path, tmp_path: Path) -> None:
    files = []
    for name, texts in (("en-00000.parquet", ["a red fox"] * 30), ("en-00001.parquet", ["fox", None, "a"])):
        files.append(tmp_path / name)
        pq.write_table(pa.table({"TEXT": pa.array(texts, pa.string())}), files[-1])
    arguments = ["audit", "text", "toxicity", *map(str, files), "--weights", str(toxic), "--each", "10"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["files"], found["captions"]) == (2, 13)
    assert all(one["low"] <= one["rate"] <= one["high"] for one in found["shares"])
    any_low = next(one for one in found["shares"] if (one["kind"], one["threshold"]) == ("any", 0.01))
    assert any_low["count"] == 13  # nobody trained it: everything is about one half
    assert CliRunner().invoke(app, arguments).exit_code == 0
    pq.write_table(pa.table({"caption": ["a"]}), files[0])
    refused = CliRunner().invoke(app, arguments)
    assert (refused.exit_code, "Remedy" in refused.output) == (1, True)


def test_weights_that_are_missing_or_pickled_are_refused_with_the_remedy(toxic: Path, tmp_path: Path) -> None:
    with pytest.raises(TextModelError, match="Remedy: the files of unitary/multilingual"):
        text_models.load("toxicity", tmp_path)
    (tmp_path / "config.json").write_bytes((toxic / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(TextModelError, match=r"no config\.json with safetensors"):
        text_models.load("toxicity", tmp_path)


def test_outputs_of_another_model_are_refused(toxic: Path, tmp_path: Path) -> None:
    for path in toxic.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"]["0"] = "spam"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TextModelError, match=r"without sexual_explicit\. Remedy"):
        text_models.load("toxicity", tmp_path)


def test_hate_speech_without_its_package_says_what_to_install(toxic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pysentimiento", None)
    with pytest.raises(TextModelError, match=r"Remedy: pip install 'laion-dask\[text\]'"):
        text_models.load("hate", toxic)
