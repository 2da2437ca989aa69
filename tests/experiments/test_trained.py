"""From kept pairs to a score: which pairs are taken, in what order, with what model, and what is asked of it."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from made.images.small_clips import shard
from made.places import ROOT
from made.processes import programs
from typer.testing import CliRunner

from experiments import held_out, kept_pairs, scales, scores, train, trained, zero_shot
from experiments.studies import new_texts
from experiments.studies.trained_comparison import SEEDS


def version(folder: Path, dropped: int = 0, rows: int = 12) -> Path:
    """Make a folder of two shards and their verdicts; the first `dropped` pairs of each are dropped."""
    for name in ("00000", "00001"):
        table, _ = shard(folder / "download", name, rows)
        uids = pq.read_table(table)["uid"].to_pylist()
        reasons = ["low_similarity"] * dropped + ["keep"] * (rows - dropped)
        (folder / "filter").mkdir(exist_ok=True)
        pq.write_table(pa.table({"uid": uids, "reason": reasons}), folder / "filter" / f"{name}.parquet")
    return folder


def tiny(**changes: object) -> scales.Scale:
    return scales.load("demo").model_copy(update={"samples": 16, "batch": 8, "warmup": 1, "threads": 1, **changes})


class TestScales:
    @pytest.mark.parametrize(
        ("name", "model", "samples", "batch", "lr", "warmup"),
        [
            ("small", "ViT-B-32", 12_800_000, 4096, 5e-4, 500),
            ("medium", "ViT-B-32", 128_000_000, 4096, 5e-4, 500),
            ("large", "ViT-B-16", 1_280_000_000, 8192, 5e-4, 500),
            ("xlarge", "ViT-L-14", 12_800_000_000, 90_112, 1e-3, 10_000),
        ],
    )
    def test_datacomps_are_as_published(
        self, name: str, model: str, samples: int, batch: int, lr: float, warmup: int
    ) -> None:
        found = scales.load(name)
        assert (found.model, found.samples, found.batch, found.lr, found.warmup) == (model, samples, batch, lr, warmup)

    def test_an_unknown_one_is_refused_with_those_that_there_are(self) -> None:
        with pytest.raises(scales.ScaleError, match=r"no scale 'tiny'\. Remedy: one of demo, small, medium"):
            scales.load("tiny")

    def test_samples_that_are_all_warm_up_are_refused_with_how_many_it_takes(self) -> None:
        with pytest.raises(scales.ScaleError, match="Remedy: more than"):
            scales.load("demo", 1_000)

    def test_what_one_process_cannot_hold_is_refused_before_torch_is_imported(self, tmp_path: Path) -> None:
        with pytest.raises(scales.ScaleError, match="torchrun"):
            trained.check(kept_pairs.find(str(version(tmp_path))), scales.load("xlarge"))

    def test_a_version_smaller_than_a_batch_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(scales.ScaleError, match="keeps 24 pairs, fewer than a batch of 128"):
            trained.check(kept_pairs.find(str(version(tmp_path))), scales.load("demo"))


class TestKeptPairs:
    def test_those_that_the_verdicts_keep_are_taken_and_the_others_counted(self, tmp_path: Path) -> None:
        found = kept_pairs.find(str(version(tmp_path, dropped=5)))
        assert found.pairs == 2 * (12 - 5)
        assert dict(found.dropped) == {"low_similarity": 10}
        drawn = {key for key, _, _ in islice(kept_pairs.stream(found, 1, 4), 100)}
        assert drawn == set().union(*found.keys.values())

    def test_a_release_is_enough_where_there_are_no_verdicts(self, tmp_path: Path) -> None:
        version(tmp_path)
        uids = pq.read_table(tmp_path / "download" / "00001.parquet")["uid"].to_pylist()[:3]
        for file in (tmp_path / "filter").iterdir():
            file.unlink()
        (tmp_path / "release").mkdir()
        pq.write_table(pa.table({"uid": uids}), tmp_path / "release" / "en-00000.parquet")
        assert kept_pairs.find(str(tmp_path)).pairs == 3

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda folder: [file.unlink() for file in (folder / "download").iterdir()], "no download/ with shards"),
            (lambda folder: (folder / "download" / "00001.tar").unlink(), r"lacks 00001\.tar"),
            (lambda folder: [file.unlink() for file in (folder / "filter").iterdir()], "neither verdicts"),
        ],
    )
    def test_a_folder_without_its_parts_is_refused_with_the_remedy(self, tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001 - a function of the table
        damage(version(tmp_path))
        with pytest.raises(kept_pairs.PairsError, match=f"{message}.*Remedy"):
            kept_pairs.find(str(tmp_path))

    def test_the_order_is_that_of_the_seed(self, tmp_path: Path) -> None:
        found = kept_pairs.find(str(version(tmp_path)))
        one, again, other = (
            [key for key, _, _ in islice(kept_pairs.stream(found, seed, 10), 60)] for seed in (1, 1, 2)
        )
        assert one == again != other

    def test_parts_share_the_shards_without_a_rest(self, tmp_path: Path) -> None:
        found = kept_pairs.find(str(version(tmp_path)))
        parts = [{key for key, _, _ in islice(kept_pairs.stream(found, 1, 4, part, 2), 60)} for part in (0, 1)]
        assert not parts[0] & parts[1]
        assert len(parts[0] | parts[1]) == found.pairs


@pytest.fixture(scope="module")
def retold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make new texts beside alt texts; the first pair of each shard has no translation, the last no caption."""
    made = version(tmp_path_factory.mktemp("texts"), rows=40)
    for table in sorted((made / "download").glob("*.parquet")):
        uids = pq.read_table(table)["uid"].to_pylist()
        for stage, column, missing in (("translate", "english", 0), ("caption", "top_caption", len(uids) - 1)):
            texts = [None if place == missing else f"{stage} {uid}" for place, uid in enumerate(uids)]
            (made / stage).mkdir(exist_ok=True)
            pq.write_table(pa.table({"uid": uids, column: texts}), made / stage / table.name)
    return made


class TestTexts:
    def read(self, folder: Path, texts: kept_pairs.Texts) -> dict[str, str]:
        """Return the caption that a model is given of each pair, by key."""
        found = kept_pairs.find(str(folder), texts=texts)
        return {key: caption for key, _, caption in islice(kept_pairs.stream(found, 1, 8), 400)}

    @pytest.mark.parametrize(("kind", "stage"), [("translation", "translate"), ("caption", "caption")])
    def test_new_texts_stand_in_for_alt_texts_where_there_are_any(
        self, retold: Path, kind: kept_pairs.TextKind, stage: str
    ) -> None:
        alt, new = self.read(retold, kept_pairs.ALT), self.read(retold, kept_pairs.Texts(kind))
        assert set(alt) == set(new)
        same = [key for key in alt if alt[key] == new[key]]
        assert len(same) == 2  # one of each shard has none
        assert all(new[key].startswith(f"{stage} ") for key in alt if key not in same)

    def test_each_text_is_that_of_its_own_pair(self, retold: Path) -> None:
        of_key = {
            row["key"]: row["uid"]
            for table in (retold / "download").glob("*.parquet")
            for row in pq.read_table(table, columns=["key", "uid"]).to_pylist()
        }
        new = self.read(retold, kept_pairs.Texts("translation"))
        assert all(text == f"translate {of_key[key]}" for key, text in new.items() if text.startswith("translate"))

    @pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 25, 53), (1.0, 78, 78)])
    def test_a_mix_has_captions_at_its_share_and_alt_texts_for_the_rest(
        self, retold: Path, share: float, low: int, high: int
    ) -> None:
        alt, mixed = self.read(retold, kept_pairs.ALT), self.read(retold, kept_pairs.Texts("mix", share))
        captions = {key for key in mixed if mixed[key].startswith("caption ")}
        assert low <= len(captions) <= high
        assert all(mixed[key] == alt[key] for key in mixed if key not in captions)

    def test_the_uid_alone_decides_what_of_a_mix_has_its_caption(self, retold: Path) -> None:
        texts = kept_pairs.Texts("mix", 0.5)
        assert self.read(retold, texts) == self.read(retold, texts)
        drawn = [texts.read(f"{number:032x}") for number in range(4000)]
        assert sum(drawn) / len(drawn) == pytest.approx(0.5, abs=0.03)
        # A larger share adds captions and takes none away.
        larger = kept_pairs.Texts("mix", 0.8)
        assert all(larger.read(f"{number:032x}") for number, has in enumerate(drawn) if has)

    @pytest.mark.parametrize(
        ("kind", "share", "message"),
        [("captions", 0.5, "no texts 'captions'.*one of alt, translation"), ("mix", 1.5, "1.5 is no share")],
    )
    def test_what_cannot_be_is_refused_with_the_remedy(self, kind: str, share: float, message: str) -> None:
        with pytest.raises(kept_pairs.PairsError, match=f"{message}.*"):
            kept_pairs.Texts(kind, share)  # type: ignore[arg-type]

    def test_a_version_without_such_texts_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(kept_pairs.PairsError, match=r"no texts in caption/\. Remedy: a section caption"):
            kept_pairs.find(str(version(tmp_path)), texts=kept_pairs.Texts("caption"))

    def test_other_texts_are_another_run_and_alt_texts_are_the_run_that_they_were(self, retold: Path) -> None:
        questions = held_out.HeldOut(None, None, "0")
        kinds = (kept_pairs.ALT, kept_pairs.Texts("caption"), kept_pairs.Texts("translation"))
        found = [kept_pairs.find(str(retold), texts=texts) for texts in kinds]
        digests = [train._digest(one, tiny(), questions, 0) for one in found]  # noqa: SLF001 - names of files
        assert len(set(digests)) == 3
        assert [one.name for one in found] == [str(retold), f"{retold}, captions", f"{retold}, translations"]


class TestStudy:
    def test_right_texts_are_counted_by_what_they_name(self) -> None:
        rows = [
            ("a", True, "star", "red"),
            ("b", False, "star", "red"),
            ("c", False, "boat", "blue"),
            ("d", True, "key", "red"),
        ]
        assert new_texts.share_right(rows, {}) == 0.5
        new = {"b": "a red star in the snow", "c": "a red boat by the sea", "d": "a small red key"}
        assert new_texts.share_right(rows, new) == 0.75

    def test_the_answer_compares_each_kind_of_text_with_the_alt_texts_of_its_filter(self, tmp_path: Path) -> None:
        kept = kept_pairs.find(str(version(tmp_path)))
        scored = []
        for name, _ in new_texts.ASKED:
            for texts, gain in zip(new_texts.TEXTS, (0.0, 0.0, 0.3, -0.05), strict=True):
                one = dataclasses.replace(kept, name=f"{name}, {texts}")
                each = {seed: {"acc1": 0.1 + gain + 0.01 * (seed + (seed % 2) * gain)} for seed in SEEDS}
                scored.append(scores.Scored(one, each))
        said = new_texts.text(scored, scales.load("demo"))
        for name, _ in new_texts.ASKED:
            assert (
                f"With {name}, beside alt texts: translations: no difference beyond chance; captions: better by acc1"
                in said
            )
            assert f"- {name}, captions against alt texts, acc1: +30." in said


class TestHeldOut:
    def test_what_is_drawn_is_read_back_and_is_the_same_for_a_seed(self, tmp_path: Path) -> None:
        one, again, other = (
            held_out.read(held_out.draw(tmp_path / n, s, 10)) for n, s in (("a", 1), ("b", 1), ("c", 2))
        )
        assert one == again
        assert one.sha256 != other.sha256
        assert one.classification is not None
        assert one.retrieval is not None
        assert one.classification.targets == list(range(10))
        assert one.classification.classes[1] == "orange star"
        assert all("{c}" in text for text in one.classification.templates)
        assert [len(captions) for captions in one.retrieval.captions] == [1] * 10
        assert held_out.image(one.retrieval.pictures[0]).mode == "RGB"

    # webdataset leaves files open, which Python tells when it collects them.
    @pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_webdataset_reads_the_members_that_clip_benchmark_asks_for(self, tmp_path: Path) -> None:
        held_out.draw(tmp_path, 1, 6)
        # As build_wds_dataset of clip_benchmark: nshards.txt, then decoded tuples.
        for part, label in (("classification", "cls"), ("retrieval", "txt")):
            assert (tmp_path / part / "test" / "nshards.txt").read_text() == "1"
            tar = str(tmp_path / part / "test" / "0.tar")
            rows = list(
                webdataset.WebDataset(tar, shardshuffle=False).decode("pil").to_tuple("webp;png;jpg;jpeg", label)
            )
            assert len(rows) == 6
            assert [type(row[1]) for row in rows] == [int if label == "cls" else str] * 6

    def test_a_folder_that_is_none_is_refused_with_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(held_out.HeldOutError, match=r"no held-out set.*Remedy"):
            held_out.read(tmp_path)


class TestScores:
    def test_a_perfect_embedding_has_all_and_one_that_tells_nothing_apart_has_none(self) -> None:
        for similarity, wanted in ((np.eye(12), 1.0), (np.ones((12, 12)), 0.0)):
            found = zero_shot.classification(similarity, range(12)) | zero_shot.retrieval(similarity, range(12))
            assert set(found.values()) == {wanted}
            assert {"acc1", "acc5", "image_retrieval_recall@5", "text_retrieval_recall@1"} <= set(found)

    def test_a_random_embedding_has_what_chance_gives(self) -> None:
        similarity = np.random.default_rng(3).random((2_000, 20))
        found = zero_shot.classification(similarity, [place % 20 for place in range(2_000)])
        assert found["acc1"] == pytest.approx(1 / 20, abs=0.02)
        assert found["acc5"] == pytest.approx(5 / 20, abs=0.04)

    def test_other_captions_of_a_picture_are_no_rivals_of_its_best_one(self) -> None:
        similarity = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.7]])
        assert zero_shot.retrieval(similarity, [0, 0, 1])["text_retrieval_recall@1"] == 1.0

    def test_mean_and_spread_are_of_the_seeds(self, tmp_path: Path) -> None:
        kept = kept_pairs.find(str(version(tmp_path)))
        one = scores.Scored(kept, {1: {"acc1": 0.1}, 2: {"acc1": 0.2}, 3: {"acc1": 0.3}})
        assert one.spread("acc1") == pytest.approx((0.2, 0.1))
        assert scores.Scored(kept, {1: {"acc1": 0.1}}).spread("acc1") == (0.1, 0.0)

    @pytest.mark.parametrize(
        ("low", "high", "told", "said"),
        [
            # By hand: differences of 2, 3 and 4 points, a standard error of 0.577, t of 2 degrees of freedom 4.303.
            ((0.10, 0.20, 0.30), (0.12, 0.23, 0.34), True, "+3.0 points (95 %: +0.5 to +5.5)"),
            ((0.12, 0.23, 0.34), (0.10, 0.20, 0.30), True, "-3.0 points (95 %: -5.5 to -0.5)"),
            ((0.10, 0.30, 0.20), (0.15, 0.25, 0.25), False, "which may be chance"),
            ((0.10,), (0.30,), False, "one seed says nothing of chance"),
            ((0.10, 0.10), (0.30, 0.30), True, "+20.0 points (95 %: +20.0 to +20.0)"),
        ],
    )
    def test_a_difference_is_told_from_chance_by_the_seeds(
        self, tmp_path: Path, low: tuple[float, ...], high: tuple[float, ...], *, told: bool, said: str
    ) -> None:
        kept = kept_pairs.find(str(version(tmp_path)))
        one, other = (
            scores.Scored(kept, {seed: {"acc1": value} for seed, value in enumerate(values)}) for values in (low, high)
        )
        found = scores.difference(one, other, "acc1")
        assert found.told is told
        assert said in str(found)


class TestTraining:
    def test_the_same_seed_gives_the_same_weights_and_another_gives_others(self, tmp_path: Path) -> None:
        kept = kept_pairs.find(str(version(tmp_path)))
        one, again, other = (trained.fit(kept, tiny(), seed).model.state_dict() for seed in (1, 1, 2))
        assert all(bool((one[name] == again[name]).all()) for name in one)
        assert not all(bool((one[name] == other[name]).all()) for name in one)

    def test_pictures_kept_decoded_change_nothing(self, tmp_path: Path) -> None:
        kept = kept_pairs.find(str(version(tmp_path, rows=4)))
        one, other = (trained.fit(kept, tiny(batch=4, kept_pictures=n), 1).model.state_dict() for n in (0, 100))
        assert all(bool((one[name] == other[name]).all()) for name in one)

    @pytest.mark.slow
    def test_what_is_seen_again_and_again_is_learned(self, tmp_path: Path) -> None:
        kept = kept_pairs.find(str(version(tmp_path, rows=4)))
        early, late = (trained.fit(kept, tiny(samples=8 * steps, warmup=1), 1).loss for steps in (2, 30))
        assert late < 0.5 * early


class TestCommand:
    def test_the_help_teaches_without_torch(self) -> None:
        code = "import sys; from experiments import train; print('torch' in sys.modules, 'open_clip' in sys.modules)"
        done = programs.finished([sys.executable, "-c", code], cwd=ROOT, check=True)
        assert done.stdout.split() == ["False", "False"]
        said = CliRunner().invoke(train.app, ["--help"]).output
        assert "python -m experiments.train no-similarity data" in said

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--scale", "tiny"], "no scale 'tiny'"),
            (["--scale", "small"], "--held-out"),
            (["--seeds", "one"], "whole numbers"),
        ],
    )
    def test_what_cannot_be_is_refused_in_one_sentence(self, words: list[str], message: str) -> None:
        done = CliRunner().invoke(train.app, words)
        assert done.exit_code == 1
        assert message in done.output
        assert "Remedy" in done.output

    @pytest.mark.slow
    def test_scores_are_recorded_beside_the_filter_and_what_is_finished_is_not_trained_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder, held = str(version(tmp_path / "data", dropped=2)), held_out.draw(tmp_path / "held", 1, 8)
        (held / "classification" / "zeroshot_classification_templates.txt").write_text("a {c}")
        recipes = tmp_path / "scales.yaml"
        recipes.write_text(json.dumps({"demo": tiny().model_dump(exclude={"name"})}))  # JSON is YAML
        monkeypatch.setattr(scales, "FILE", recipes)

        def run(seeds: str) -> str:
            words = [folder, "--seeds", seeds, "--held-out", str(held), "--out", str(tmp_path / "out"), "--no-mlflow"]
            done = CliRunner().invoke(train.app, words)
            assert done.exit_code == 0, done.output
            return done.output

        assert "1 runs of 2 steps, 0 of them there already" in run("1")
        (finished,) = (tmp_path / "out" / "runs").iterdir()
        before = finished.stat().st_mtime_ns
        # As a crash leaves it: a run that was not written to its end counts for nothing.
        finished.with_name(finished.name.replace("-1.", "-2.")).with_suffix(".partial").write_text('{"acc1"')
        assert "2 runs of 2 steps, 1 of them there already" in run("1,2")
        assert finished.stat().st_mtime_ns == before
        files = [tmp_path / "out" / name for name in ("scores.csv", "scores.json")]
        first = [file.read_bytes() for file in files]
        rows = list(csv.DictReader(first[0].decode().splitlines()))
        assert [(row["kept"], row["dropped.low_similarity"], row["seed"]) for row in rows] == [
            ("20", "4", "1"),
            ("20", "4", "2"),
        ]
        told = json.loads(first[1])["versions"][0]["scores"]
        assert set(told["acc1"]["each"]) == {"1", "2"}
        assert len(told) == 7
        assert all(0 <= value <= 1 for score in told.values() for value in score["each"].values())
        assert (tmp_path / "out" / "scores.png").is_file()
        assert "2 of them there already" in run("1,2")
        assert [file.read_bytes() for file in files] == first
