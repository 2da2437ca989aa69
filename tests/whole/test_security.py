"""What docs/security.md promises of the whole code: no pickle, no shell, no secret in what is written, one socket."""

from __future__ import annotations

import ast
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from made.places import ROOT

from laion_dask import params
from laion_dask.catalog import database

SOURCES = sorted([*(ROOT / "laion_dask").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")])
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "joblib.load"),
    *("marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle", "dill.load", "dill.loads"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("asyncio.create_subprocess_shell", "eval", "exec", "yaml.unsafe_load"),
}
# What a process of ours sends to another over their own pipe; nothing of the web or of a file is read so.
OWN_PROCESSES = {("prefetch", "pickle.loads")}
# What may be read of the environment: settings of the machine, and what our programs hand to those that they start.
ENVIRONMENT = {
    *("LAION_DASK_DSN", "LAION_DASK_HOME", "CUDA_VISIBLE_DEVICES", "MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "PYTHONPATH"),
    *(
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "MLFLOW_DISABLE_TELEMETRY",
        "DVC_STAGE",
        "TORCHINDUCTOR_CACHE_DIR",
        "PYTHONSAFEPATH",
    ),
}
SECRET = ("password", "secret", "token_", "credential", "api_key", "salt", "dsn")


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> object:
    return next((ast.unparse(found.value) for found in call.keywords if found.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_pickle_is_loaded_and_no_shell_is_built(path: Path) -> None:
    for name, call in calls(path):
        assert name not in FORBIDDEN or (path.stem, name) in OWN_PROCESSES, f"{path.name}:{call.lineno} calls {name}"
        assert keyword(call, "shell") in {None, "False"}, f"{path.name}:{call.lineno} asks for a shell"
        if name in {"np.load", "numpy.load"}:
            # False is NumPy's own default; None of ours may turn it round.
            assert keyword(call, "allow_pickle") in {None, "False"}, f"{path.name}:{call.lineno}"
        if name == "torch.load":
            assert keyword(call, "weights_only") == "True", f"{path.name}:{call.lineno} may run what weights hold"
        if name.startswith("subprocess.") and name.partition(".")[2] in {"run", "Popen", "check_output", "call"}:
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), (
                f"{path.name}:{call.lineno} is one string"
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_known_names_are_read_of_the_environment(path: Path) -> None:
    for name, call in calls(path):
        if name in {"os.environ.get", "os.getenv", "os.environ.setdefault"}:
            assert isinstance(call.args[0], ast.Constant)
            assert call.args[0].value in ENVIRONMENT, f"{path.name}:{call.lineno}"


def test_no_parameter_is_a_secret() -> None:
    names = [
        f"{section}.{name}"
        for section, field in params.Params.model_fields.items()
        for name in getattr(field.annotation, "model_fields", {})
    ]
    assert len(names) > 50
    assert not [name for name in names if any(word in name for word in SECRET)]


def _is_open(place: Path | os.stat_result) -> bool:
    about = place.stat() if isinstance(place, Path) else place
    return bool(about.st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def test_the_embedded_database_listens_on_a_socket_that_its_owner_alone_can_reach(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        settings = {
            name: connection.execute(f"show {name}").fetchone() or ("",)
            for name in ("listen_addresses", "unix_socket_directories", "unix_socket_permissions")
        }
        assert settings["listen_addresses"] == ("",)
        assert settings["unix_socket_permissions"] == ("0700",)
        folders = [Path(name) for name in str(settings["unix_socket_directories"][0]).split(",")]
        assert folders
        assert not [folder for folder in folders if not folder.is_absolute()]
        # The server's working folder is that of its data.
        data = Path(f"/proc/{connection.info.backend_pid}/cwd").stat()
        assert [path for path in (*folders, data) if _is_open(path)] == []


def test_an_error_of_the_database_holds_no_password() -> None:
    secret = "hunter2-hunter2"  # noqa: S105 - not a password of anything
    with (
        pytest.raises(database.CatalogError) as refused,
        database.transaction(f"postgresql://me:{secret}@127.0.0.1:1/nothing"),
    ):
        pass
    assert secret not in str(refused.value)
    assert refused.value.__cause__ is None
