"""ARTIFACT.md: its claims can be run one by one and as a whole, and one that does not hold is named."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from made.places import ROOT
from typer.testing import CliRunner

from experiments import artifact

TEXT = (ROOT / "ARTIFACT.md").read_text(encoding="utf-8")
CLAIMS = artifact.read(TEXT)
PAGE = """# Artifact

### Claim 1: It greets

```
echo hello there
echo and more
```

Expected:

```
hello …
```

Time: 1 s. Disk: none. Machine: any.

### Claim 2: It fails

```
echo before
false
echo after
```

Expected:

```
before
```

Time: 1 s. Disk: none. Machine: any.

### Claim 3: It says something else

```
echo this
```

Expected:

```
that
```

Time: 1 s. Disk: none. Machine: any.
"""


def test_there_are_at_least_ten_claims_numbered_from_one_and_every_heading_is_read() -> None:
    assert len(CLAIMS) >= 10
    assert [claim.number for claim in CLAIMS] == [*range(1, len(CLAIMS) + 1)]
    assert TEXT.count("\n### Claim ") == len(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: str(claim.number))
def test_a_claim_has_commands_lines_time_and_disk_and_its_files_exist(claim: artifact.Claim) -> None:
    assert claim.commands
    assert claim.lines
    assert re.fullmatch(r"\d+ (s|min)", claim.time)
    assert re.fullmatch(r"none|\d+ (MB|GB)", claim.disk)
    assert claim.machine in {"any", "alike"}
    named = [word for word in shlex.split(claim.commands.replace("<<", " ")) if word.startswith(("tests/", "docs/"))]
    assert [name for name in named if "$" not in name and not (ROOT / name).exists()] == []
    outside = [word for word in claim.commands.split() if word.startswith(("/", "~", "..")) or "://" in word]
    assert outside == []


def test_make_has_the_target_for_one_claim_and_the_loop_over_all() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^claim-%: \$\(READY\)\n\t@python -m experiments\.artifact \$\*$", makefile, re.MULTILINE)
    assert re.search(r"^claims: .*\n\t@python -m experiments\.artifact all$", makefile, re.MULTILINE)
    assert "make claims" in TEXT
    assert "make claim-N" in TEXT


def named(title: str) -> artifact.Claim:
    (claim,) = (claim for claim in CLAIMS if title in claim.title)
    return claim


def test_the_counts_that_claims_expect_are_those_of_the_metrics_in_git() -> None:
    release, report = (json.loads((ROOT / f"metrics/{name}.json").read_text()) for name in ("release", "report"))
    kept, truth = f"{release['pairs']['kept']:,}", report["truth"]
    files = f"{release['files']} files match data/release/manifest.json"
    assert f"{files}; {kept} pairs" in named("The release is the one").lines[0]
    for line in named("The decisions are right").lines:
        decision, _, precision, _, recall = line.split()
        assert [float(precision), float(recall)] == [truth[decision][rate] for rate in ("precision", "recall")]
    assert f"{truth['keep']['precision']:.2%}".replace("%", " %") in TEXT
    assert f"| 0.25 | {kept} |" in named("Another threshold").lines[1]
    assert f"publish: {kept} pairs" in named("handed on").lines[1]


def test_the_root_of_the_release_is_one_in_all_claims() -> None:
    assert len(set(re.findall(r"\b[0-9a-f]{64}\b", TEXT))) == 1


@pytest.mark.parametrize(
    ("lines", "output", "missing"),
    [
        (["a", "b"], "a\nx\nb\n", ""),
        (["a", "b"], "b\na\n", "b"),
        (["5 passed in …"], "........\n5 passed in 3.2s\n", ""),
        (["5 passed in …"], "1 failed, 5 passed in 3.2s\n", "5 passed in …"),
        (["… passed in …"], "15 passed in 3s\n", ""),
        (["… passed in …"], "15 passed, 1 skipped in 3s\n", "… passed in …"),
        (["x … 0 lost"], "x of y: 0 lost\n", ""),
        (["x … 0 lost"], "x of y: 10 lost\n", "x … 0 lost"),
        (["a …"], "b a\n", "a …"),
        (["keep 1.0"], "keep   1.0\n", ""),
        (["keep 1.0"], "keep 100\n", "keep 1.0"),
        (["all of it"], "", "all of it"),
    ],
)
def test_lines_are_looked_for_in_their_order(lines: list[str], output: str, missing: str) -> None:
    found = artifact.difference(lines, output)
    assert found == (f"it did not print: {missing}" if missing else "")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ARTIFACT.md").write_text(PAGE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_claim_that_holds_ends_with_status_0_and_its_output_is_kept(project: Path) -> None:
    done = CliRunner().invoke(artifact.app, ["1"])
    assert done.exit_code == 0, done.output
    assert "holds  It greets" in done.output
    assert (project / ".laion_dask" / "claims" / "1.txt").read_text() == "hello there\nand more\n"


def test_of_all_claims_each_is_run_and_those_that_do_not_hold_are_named_with_why(project: Path) -> None:
    assert project.is_dir()
    done = CliRunner().invoke(artifact.app, ["all"])
    assert done.exit_code == 1
    assert "DOES NOT HOLD: status 1" in done.output
    assert "DOES NOT HOLD: it did not print: that" in done.output
    assert done.output.endswith("1 of 3 claims hold\n")
    # A command that fails is the last one.
    assert (project / ".laion_dask" / "claims" / "2.txt").read_text() == "before\n"


@pytest.mark.parametrize(("arguments", "said"), [(["9"], "Remedy: one of 1, 2, 3, or all"), (["x"], "Remedy: one of")])
def test_an_unknown_claim_is_refused(project: Path, arguments: list[str], said: str) -> None:
    assert project.is_dir()
    done = CliRunner().invoke(artifact.app, arguments)
    assert done.exit_code == 1
    assert said in str(done.exception) + done.output


def test_without_the_page_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(artifact.app, [])
    assert done.exit_code == 1
    assert "Remedy: run this in the project's folder" in str(done.exception) + done.output
