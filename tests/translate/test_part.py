"""A shard translated: a row for each kept pair with its text or a reason, and equal bytes however it runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.texts import translators
from made.texts.translators import Made
from made.versions import tables

from laion_dask import params, schema
from laion_dask.params.filters import Keywords
from laion_dask.runner import parts as runner_parts
from laion_dask.runner.part import Part
from laion_dask.runner.progress import Progress
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.new_texts import KINDS_OF_PERSONAL_DATA
from laion_dask.schema.reasons import KEEP, REASONS
from laion_dask.storage import embeddings
from laion_dask.texts import new_texts
from laion_dask.translate import engine, models, part

ROWS = 16
DEMO = params.Model(name="demo", model="demo")


@pytest.fixture(scope="module")
def made(translator_folder: Path) -> Made:
    return translators.make(translator_folder, "m2m100")


def arguments(folder: Path, *rows: dict[str, Any], **rules: Any) -> dict[str, Any]:  # noqa: ANN401
    """Write a shard of rows, with a picture embedding each, and return the arguments of its part."""
    images = [{name: row[name] for name in row.keys() & {"caption", "language", "split", "reason"}} for row in rows]
    scores = [{name: row[name] for name in row.keys() & {"punsafe", "similarity"}} for row in rows]
    judged = [{"reason": row.get("verdict", KEEP)} for row in rows]
    made = tables.images(*images)
    slots = [{"slot": place, **one} for place, one in enumerate(scores)]
    store = folder / embeddings.STORE
    if not store.exists():
        features = np.random.default_rng(5).normal(size=(ROWS, 128))
        unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float16)
        embeddings.write_shard(store, {"demo": {"image": unit, "text": unit}}, {"demo": {}})
    return {
        "name": "00000",
        "images": tables.write(folder / "images.parquet", made),
        "scores": tables.write(folder / "scores.parquet", tables.scores(*slots)),
        "verdicts": tables.write(folder / "verdicts.parquet", tables.verdicts(*judged)),
        "store": store,
        "words": None,
        "reader": DEMO,
        **rules,
    }


def run(folder: Path, made: Made, *rows: dict[str, Any], words: Keywords | None = None, **rules: Any) -> Any:  # noqa: ANN401
    """Translate a shard of rows, and return its counts and its table."""
    out = folder / "out"
    out.mkdir(parents=True)
    counts = part.translate(out, **arguments(folder, *rows, words=words), settings=made.rules(**rules))
    return counts, schema.TRANSLATIONS.check(pq.read_table(out / "00000.parquet"))


def german(caption: str = "eine rote circle", **row: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"caption": caption, "language": "de", "split": "multi", **row}


def test_every_kept_pair_has_a_row_with_its_text_or_its_reason(tmp_path: Path, made: Made) -> None:
    rows = [
        german(similarity=0.25),
        german(verdict="unsafe"),
        german(reason="not_found", verdict="not_found"),
        {"caption": "a red circle", "language": "en", "split": "en"},
        german(language="", split="nolang"),
        german(language="eu"),
        german("a\0b"),
        german("☃"),
        german(" ".join(["rote"] * 33)),
        german("eine blaue Quadrat"),
    ]
    counts, table = run(tmp_path, made, *rows, splits=("multi", "nolang"))
    found = table.to_pylist()
    assert [row["uid"] for row in found] == [tables.uid(place) for place in (0, 3, 4, 5, 6, 7, 8, 9)]
    assert [row["reason"] for row in found] == [
        *(KEEP, "split_not_asked", "no_language", "language_unknown_to_model"),
        *("untranslatable_text", "untranslatable_text", "long_text", KEEP),
    ]
    first = found[0]
    assert first["english"] == part.english(["eine rote circle"], ["de"], made.rules()).texts[0]
    assert (first["source_language"], first["cut"], first["new_emails"]) == ("de", True, 0)
    assert first["similarity"] == np.float32(0.25)
    stored = np.asarray(embeddings.array(_group(tmp_path), "demo/image")[0], np.float32)
    assert first["english_similarity"] == pytest.approx(
        float(stored @ new_texts.embedded([first["english"]], DEMO)[0]), abs=1e-6
    )
    for row in found[1:-1]:
        assert {row[name] for name in ("english", "cut", "english_similarity", *KINDS_OF_PERSONAL_DATA)} == {None}
    assert [row["source_language"] for row in found] == ["de", "", "", "", "de", "de", "de", "de"]
    assert Ledger.from_dict(counts["texts"]).kept == 2
    assert counts["texts"]["seen"] == 8
    assert counts["cut"] == 2
    assert [*counts["seconds"]] == ["tokenize", "translate", "similarity", "write"]


def _group(folder: Path) -> Any:  # noqa: ANN401 - a Zarr group
    import zarr

    return zarr.open_group(folder / embeddings.STORE, mode="r")


def test_a_listed_word_in_the_translation_of_an_unsafe_image_takes_the_text_away(tmp_path: Path, made: Made) -> None:
    text = part.english(["eine rote circle"], ["de"], made.rules()).texts[0]
    assert text
    (tmp_path / "words.txt").write_text(f"{text}\n")
    words = Keywords(file=str(tmp_path / "words.txt"), above_punsafe=0.5)
    counts, table = run(tmp_path, made, german(punsafe=0.9), german(punsafe=0.2), words=words)
    assert table["reason"].to_pylist() == ["keyword_in_translation", KEEP]
    assert table["english"].to_pylist() == [None, text]
    assert counts["texts"]["dropped"] == {"keyword_in_translation": 1}


def test_a_shard_without_kept_pairs_gives_an_empty_table_and_loads_no_model(tmp_path: Path) -> None:
    absent = Made("m2m100", tmp_path / "absent", tmp_path / "absent")
    counts, table = run(tmp_path, absent, german(verdict="unsafe"), german(split="en"))
    assert table["reason"].to_pylist() == ["split_not_asked"]
    assert counts["texts"] == {"seen": 1, "kept": 0, "dropped": {"split_not_asked": 1}}


@pytest.mark.parametrize(
    ("source", "no_language", "languages", "told"),
    [
        ("column", "skip", ["de", "", None, "eu"], ["de", None, None, None]),
        ("column", "try", ["de", "", None, "eu"], ["de", "", "", None]),
        ("none", "skip", ["de", "", None, "eu"], ["", None, None, ""]),
        ("none", "try", ["de", "", None, "eu"], ["", "", "", ""]),
    ],
)
def test_the_source_language_comes_from_the_column_or_is_never_set(
    made: Made, source: str, no_language: str, languages: list[str | None], told: list[str | None]
) -> None:
    rules = made.rules(source=source, no_language=no_language)
    rows = part.english(["eine rote circle"] * 4, languages, rules)
    kept = [one == KEEP for one in rows.reasons]
    assert [language if is_kept else None for language, is_kept in zip(rows.languages, kept, strict=True)] == told
    # The default of transformers' tokenizer, where LAION's code set no language, is English.
    english = part.english(["eine rote circle"], ["en"], made.rules()).texts[0]
    assert {rows.texts[row] for row, code in enumerate(told) if code == ""} <= {english}


def test_a_model_that_writes_nothing_or_one_thing_for_ever_has_its_reasons(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"▁ein": [], "▁le": ["▁red"] * 9, "▁la": ["▁red"]}

    def translate(_: Any, sources: list[list[str]], *__: Any, **___: Any) -> list[engine.Written]:  # noqa: ANN401
        return [engine.Written(answers[source[1]], len(answers[source[1]]) > 1) for source in sources]

    monkeypatch.setattr(engine.Engine, "translate", translate)
    rows = part.english(["ein rote", "le bleu", "la bleu"], ["de", "fr", "fr"], made.rules())
    assert rows.reasons == ["empty_translation", "repeating_translation", KEEP]
    assert rows.texts == [None, None, "red"]
    assert rows.cut == [None, None, False]


@given(
    texts=st.lists(
        st.one_of(st.text(max_size=20), st.sampled_from([*translators.TEXTS[:40], "\ud800", "\0", "", "☃"])), max_size=9
    ),
    data=st.data(),
)
@settings(max_examples=25, deadline=None)
def test_any_text_in_any_language_has_a_text_or_a_reason_in_its_row(
    translator_folder: Path, texts: list[str], data: st.DataObject
) -> None:
    codes = data.draw(st.lists(st.sampled_from(["de", "zh", "xx", "", None]), min_size=len(texts), max_size=len(texts)))
    rules = translators.make(translator_folder, "m2m100").rules(no_language="try", batch=3)
    rows = part.english(texts, codes, rules)
    assert len(rows.reasons) == len(rows.texts) == len(rows.languages) == len(rows.cut) == len(texts)
    assert set(rows.reasons) <= {KEEP, *REASONS["translate"]}
    for text, reason, cut in zip(rows.texts, rows.reasons, rows.cut, strict=True):
        assert bool(text) is (cut is not None) is (reason == KEEP)
    assert part.counts(rows)["texts"]["seen"] == len(texts)
    alone = [part.english([text], [code], rules) for text, code in zip(texts, codes, strict=True)]
    assert rows.texts == [one.texts[0] for one in alone]


@pytest.mark.parametrize("family", ["nllb", "marian"])
def test_other_families_write_their_own_codes(translator_folder: Path, family: str) -> None:
    rules = translators.make(translator_folder, family).rules()
    rows = part.english(["eine rote circle", "la bleu"], ["de", "yue"], rules)
    assert rows.languages == {"nllb": ["deu_Latn", "yue_Hant"], "marian": ["", ""]}[family]
    assert set(rows.reasons) <= {KEEP, "repeating_translation", "empty_translation"}


# As parts of a run


def todo(folder: Path, made: Made) -> list[Part]:
    captions = translators.TEXTS
    found = []
    for shard in range(4):
        rows = [german(" ".join(captions[shard * 50 + at : shard * 50 + at + 1 + at % 3])) for at in range(ROWS)]
        args = arguments(folder / str(shard), *rows, settings=made.rules(), name=f"{shard:05}")
        found.append(Part(f"{shard:05}", f"key{shard}", args))
    return found


def test_outs_are_equal_on_any_number_of_workers_and_after_a_kill(client: Any, tmp_path: Path, made: Made) -> None:  # noqa: ANN401
    parts = todo(tmp_path, made)
    work = tmp_path / "work"
    # What a killed run leaves: a finished part, and a part under its temporary name.
    first = runner_parts.run(part.translate, parts[:1], work, client, progress=Progress("translate", "texts"))
    (work / "key1.new").mkdir()
    done = runner_parts.run(part.translate, parts, work, client, progress=Progress("translate", "texts"))
    assert first[0].folder == done[0].folder
    alone = []
    for one in parts:
        out = tmp_path / "alone" / one.name
        out.mkdir(parents=True)
        part.translate(out, **one.args)
        alone.append(hashlib.sha256((out / f"{one.name}.parquet").read_bytes()).hexdigest())
    found = [hashlib.sha256((one.folder / f"{one.part.name}.parquet").read_bytes()).hexdigest() for one in done]
    assert found == alone
    assert sum(one.counts["texts"]["seen"] for one in done) == 4 * ROWS
    table = pa.concat_tables(pq.read_table(one.folder / f"{one.part.name}.parquet") for one in done)
    assert len(set(table["english"].to_pylist())) > 20


def test_the_key_of_a_part_changes_with_every_file_that_decides_the_texts(made: Made, tmp_path: Path) -> None:
    from laion_dask.storage.files import digest

    for path in made.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    rules = translators.rules(tmp_path, "m2m100")
    before = digest(models.deciding(rules))
    for name in ("model.bin", "config.json", "shared_vocabulary.json", "sentencepiece.bpe.model"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content + b" ")
        assert digest(models.deciding(rules)) != before, name
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README.md").write_text("another card")
    assert digest(models.deciding(rules)) == before
