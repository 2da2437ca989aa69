"""Commands in a folder that others have filled: files with the names of Python's modules there are never run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from made.processes import programs
from made.servers.downloads import JPEG, picture, write_warc

TRAPS = (
    *("distributed", "laion_dask", "multiprocessing", "numpy", "pandas", "PIL", "pickle", "pyarrow", "signal"),
    *("socket", "tempfile", "threading", "torch"),
)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize("temporary", ["", "deep" * 20], ids=["forked", "spawned"])
def test_a_download_runs_no_module_of_the_folder_that_it_is_started_in(tmp_path: Path, temporary: str) -> None:
    ran = tmp_path / "ran"
    here = tmp_path / "downloads"
    here.mkdir()
    for name in TRAPS:
        (here / f"{name}.py").write_text(
            f"open({str(ran)!r}, 'a').write('{name} in ' + repr(__import__('sys').orig_argv))"
        )
    url = "http://a.example/1.jpg"
    write_warc(here / "a.warc.gz", [(url, "200 OK", JPEG, picture(1))])
    (here / "urls.txt").write_text(f"{url}\n")
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONSAFEPATH"}}
    if temporary:
        (tmp_path / temporary).mkdir()
        environment["TMPDIR"] = str(tmp_path / temporary)
    command = [
        Path(sys.executable).parent / "laion-dask",
        "download",
        "urls.txt",
        "--out",
        "o",
        "--replay",
        "a.warc.gz",
    ]
    done = programs.finished([*command, "--workers", "1"], cwd=here, env=environment)
    assert not ran.exists(), ran.read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrote    1 images" in done.stdout
