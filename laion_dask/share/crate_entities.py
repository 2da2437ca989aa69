"""Describe the parts of a run in the words of Workflow Run RO-Crate: one function for each kind of entity."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from laion_dask.params import Release
from laion_dask.runner.trace_file import StageTrace
from laion_dask.share.locked import LockedFile, LockedStage

if TYPE_CHECKING:
    from rocrate.model.entity import Entity

CONTEXT: Final = "https://w3id.org/ro/terms/workflow-run/context"
COMPLETED: Final = "http://schema.org/CompletedActionStatus"
_PROFILES: Final = (
    ("https://w3id.org/ro/wfrun/process/0.5", "Process Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/workflow/0.5", "Workflow Run Crate", "0.5"),
    ("https://w3id.org/ro/wfrun/provenance/0.5", "Provenance Run Crate", "0.5"),
    ("https://w3id.org/workflowhub/workflow-ro-crate/1.0", "Workflow RO-Crate", "1.0"),
)
_FORMAL: Final = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"
_DVC: Final = "https://dvc.org/"


@dataclass(frozen=True, slots=True)
class Described:
    """An entity that is no file: its @id and its properties."""

    id: str
    properties: Mapping[str, Any]


def address(lock_sha256: str, file: LockedFile) -> str:
    """Return the address of a file in the archive that is named by the digest of dvc.lock."""
    name = base64.urlsafe_b64encode(bytes.fromhex(lock_sha256)).decode().rstrip("=")
    return f"arcp://ni,sha-256;{name}/{file.path}{'/' if file.is_folder else ''}"


def agent(release: Release) -> Described:
    """Describe who publishes the version."""
    return Described("#publisher", {"@type": "Organization", "name": release.creator, "description": release.contact})


def profiles() -> list[Described]:
    """Describe the profiles that the crate follows."""
    return [
        Described(address, {"@type": "CreativeWork", "name": name, "version": number})
        for address, name, number in _PROFILES
    ]


def license_of_data(address: str) -> Described:
    """Describe the licence of the metadata."""
    return Described(
        address,
        {
            "@type": "CreativeWork",
            "name": "CC-BY-4.0",
            "identifier": address,
            "description": "Creative Commons Attribution 4.0; no right is claimed in any image or text",
        },
    )


def license_of_workflow(address: str) -> Described:
    """Describe the licence of the workflow."""
    return Described(
        address, {"@type": "CreativeWork", "name": "MIT", "identifier": address, "description": "MIT License"}
    )


def language() -> Described:
    """Describe the language of dvc.yaml."""
    about = {"@type": "ComputerLanguage", "name": "DVC pipeline", "alternateName": "DVC", "url": {"@id": _DVC}}
    return Described("#dvc-pipeline", about | {"identifier": {"@id": _DVC}})


def engine(dvc_version: str) -> Described:
    """Describe what runs the stages."""
    return Described(
        _DVC, {"@type": "SoftwareApplication", "name": "DVC", "url": {"@id": _DVC}, "softwareVersion": dvc_version}
    )


def package(our_version: str) -> Described:
    """Describe the package whose functions the programs call."""
    about = {"@type": "SoftwareApplication", "name": "laion_dask", "softwareVersion": our_version}
    description = (
        "Its modules that a stage depends on stand with their digests in dvc.lock; packages in requirements.lock"
    )
    return Described("#laion_dask", about | {"description": description})


def formal_value(key: str, value: object) -> Described:
    """Describe a parameter of params.yaml."""
    kinds = {bool: "Boolean", int: "Integer", float: "Float"}
    about = {"@type": "FormalParameter", "additionalType": kinds.get(type(value), "Text"), "name": key}
    return Described(f"#param-{key}", about | {"conformsTo": {"@id": _FORMAL}, "valueRequired": "True"})


def value(key: str, value: object, formal: Entity) -> Described:
    """Describe the value of a parameter; lists, mappings and null as JSON."""
    shown = value if isinstance(value, bool | int | float | str) else json.dumps(value, ensure_ascii=False)
    return Described(
        f"#value-{key}", {"@type": "PropertyValue", "name": key, "value": shown, "exampleOfWork": {"@id": formal.id}}
    )


def formal_file(owner: str, way: str, file: LockedFile) -> Described:
    """Describe the place of a file or folder in a stage or in the workflow; `way` is input or output."""
    kind = "Dataset" if file.is_folder else "File"
    about = {"@type": "FormalParameter", "additionalType": kind, "name": file.path}
    return Described(
        f"#{way}-{owner}-{_token(file.path)}", about | {"conformsTo": {"@id": _FORMAL}, "valueRequired": "True"}
    )


def digest(file: LockedFile) -> Described:
    """Describe a digest of DVC's: of a folder it is that of the list of its files' digests."""
    return Described(
        f"#md5-{_token(file.path)}",
        {"@type": "PropertyValue", "name": "DVC md5", "propertyID": "md5", "value": file.md5},
    )


def step(stage: LockedStage, place: int, tool: Entity) -> Described:
    """Describe a stage as a step of the workflow."""
    about = {"@type": "HowToStep", "name": stage.name, "position": str(place), "workExample": {"@id": tool.id}}
    return Described(f"#step-{stage.name}", about)


def control(stage: LockedStage, step_of_it: Entity, action: Entity) -> Described:
    """Describe that the engine ran a step."""
    return Described(
        f"#control-{stage.name}",
        {
            "@type": "ControlAction",
            "name": f"DVC runs {stage.name}",
            "instrument": {"@id": step_of_it.id},
            "object": {"@id": action.id},
        },
    )


def organize(run_by: Entity, controls: Sequence[Entity], whole: Entity, by: Entity) -> Described:
    """Describe that the engine ran the workflow."""
    return Described(
        "#dvc-repro",
        {
            "@type": "OrganizeAction",
            "name": "dvc repro",
            "agent": {"@id": by.id},
            "instrument": {"@id": run_by.id},
            "object": [{"@id": control.id} for control in controls],
            "result": {"@id": whole.id},
        },
    )


def connection(writer: str, reader: str, path: str, source: Entity, target: Entity) -> Described:
    """Describe that a stage reads what another one has written."""
    return Described(
        f"#connection-{writer}-{reader}-{_token(path)}",
        {
            "@type": "ParameterConnection",
            "sourceParameter": {"@id": source.id},
            "targetParameter": {"@id": target.id},
        },
    )


def times(traces: Sequence[StageTrace]) -> dict[str, str]:
    """Return start and end of runs, by the driver's clock, in UTC."""
    ends = {"startTime": min(trace.began for trace in traces), "endTime": max(trace.ended for trace in traces)}
    return {name: datetime.fromtimestamp(round(at), UTC).isoformat() for name, at in ends.items()}


def how_it_ran(trace: StageTrace | None) -> str:
    """Say in a sentence what a run consisted of."""
    if trace is None:
        return "When it ran is not known: the traces beside this copy of the version do not have it."
    measured = [row for row in trace.rows if row["seconds"] is not None]
    workers = {row["worker"] for row in measured}
    seconds = sum(row["processor_seconds"] for row in measured)
    return f"{len(trace.rows):,} parts on {len(workers):,} workers, {seconds:,.1f} s of processor time."


def _token(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", path)
