"""Label files: what the page saves is read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.versions.drawn_sample import SAMPLE, UIDS

from laion_dask.audit import labels
from laion_dask.audit.labels import DataPoint, LabelsError

HEADER = "sample,uid,question,answer,labeler,time"
GOOD = f"s1,{UIDS[0]},unsafe,yes,labeler-a1,2026-01-31T12:00:00Z"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return path


def test_what_the_page_saves_is_read(tmp_path: Path) -> None:
    found = labels.read([write(tmp_path / "a.csv", GOOD)], SAMPLE)
    assert found == [DataPoint(UIDS[0], "unsafe", "labeler-a1", "yes", "2026-01-31T12:00:00Z")]


def test_of_two_answers_of_one_labeler_the_later_counts_whatever_file_it_is_in(tmp_path: Path) -> None:
    later = GOOD.replace("yes", "no").replace("12:00", "12:01")
    one, two = write(tmp_path / "a.csv", GOOD), write(tmp_path / "b.csv", later)
    for order in ([one, two], [two, one]):
        assert [label.answer for label in labels.read(order, SAMPLE)] == ["no"]


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace("s1", "s2"), "sample is 's2'"),
        (GOOD.replace(UIDS[0], "f" * 32), "uid is 'f{32}'. Remedy: one of the sample"),
        (GOOD.replace("unsafe", SCRIPT), "question is '<script>"),
        (GOOD.replace("yes", SCRIPT), "answer is '<script>.*Remedy: one of no, unsure, yes"),
        (GOOD.replace("labeler-a1", SCRIPT), "labeler is '<script>"),
        (GOOD.replace("labeler-a1", "=cmd()"), "labeler is '=cmd"),
        (GOOD.replace("labeler-a1", "Jane Doe"), "pseudonym"),
        (GOOD.replace("2026-01-31T12:00:00Z", "yesterday"), "time is 'yesterday'"),
        (GOOD.replace("2026-01-31", "2026-02-30"), "time is '2026-02-30T12:00:00Z'"),
        (GOOD.replace("12:00:00", "12:00:60"), "time is"),
        (GOOD.replace("yes", '"yes\n"'), "cannot be read as CSV"),
        (GOOD.replace("yes", "\x1b[2Jyes"), r"answer is '\\x1b\[2Jyes'"),
        (GOOD.replace("yes", "y\N{RIGHT-TO-LEFT OVERRIDE}"), r"answer is 'y\\u202e'"),
        (GOOD + ",more", "7 values"),
        ("s1", "1 values"),
        (GOOD.replace("yes", '"yes'), "cannot be read as CSV"),
        (GOOD.replace("yes", "y" * 200_000), "cannot be read as CSV: field larger"),
    ],
)
def test_a_hostile_value_is_refused_with_file_line_and_remedy_and_shown_harmlessly(
    tmp_path: Path, line: str, message: str
) -> None:
    path = write(tmp_path / "labels.csv", GOOD, line)
    with pytest.raises(LabelsError, match=message) as refused:
        labels.read([path], SAMPLE)
    assert str(path) in str(refused.value)
    assert "Remedy" in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    "content",
    [b"", b"uid,answer\n1,yes\n", b"\x00\x01\x02", b"\xff\xfe" * 50, b"PK\x03\x04zip", HEADER.encode() + b",note\n"],
)
def test_a_file_that_is_no_label_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    with pytest.raises(LabelsError, match="Remedy"):
        labels.read([path], SAMPLE)


def test_a_million_rows_are_refused_long_before_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(HEADER + "\n" + (GOOD + "\n") * 1_000_000)
    with pytest.raises(LabelsError, match="more than the 240 labels"):
        labels.read([path], SAMPLE)


def test_a_missing_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="Remedy"):
        labels.read([tmp_path / "none.csv"], SAMPLE)


def test_what_is_exported_is_what_was_read_and_can_be_read_again(tmp_path: Path) -> None:
    other = GOOD.replace("labeler-a1", "labeler-b2").replace("yes", "unsure")
    found = labels.read([write(tmp_path / "a.csv", GOOD, other)], SAMPLE)
    assert labels.write(tmp_path / "out" / "labels.csv", found, SAMPLE) == 2
    assert labels.read([tmp_path / "out" / "labels.csv"], SAMPLE) == found
    assert (tmp_path / "out" / "labels.csv").read_text().splitlines()[1] == GOOD


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("yes", "yes"), ("yes yes no", "yes"), ("yes no", "unsure"), ("unsure no", "no"), ("unsure", "unsure")],
)
def test_the_answer_of_most_labelers_counts(answers: str, expected: str) -> None:
    found = [
        DataPoint(UIDS[0], "unsafe", f"l-{place}", answer, "2026-01-31T12:00:00Z")
        for place, answer in enumerate(answers.split())
    ]
    assert labels.verdicts(found) == {(UIDS[0], "unsafe"): expected}
