"""Write a version as a Workflow Run RO-Crate: workflow, parameters, what each stage read and wrote, who and when.

Profile: Provenance Run Crate 0.5 (RO-Crate 1.1). dvc.yaml is the workflow, a stage is a step that runs a program of
workflow/, DVC is the engine. The crate holds the small files; data are named by an address in the archive that dvc.lock
is (arcp, ni: RFC 6920), with DVC's digest, because they do not fit into a crate. The ledger of removals is only named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from laion_dask.params import Params
from laion_dask.release import croissant
from laion_dask.report import stage_times
from laion_dask.share import crate_entities as entities
from laion_dask.share import locked

if TYPE_CHECKING:
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

METADATA: Final = "ro-crate-metadata.json"
_RELEASE: Final = "data/release"
_WORKFLOW_LICENSE: Final = "https://spdx.org/licenses/MIT"
# Files that say what a release is; its tables are named with their digests.
_DESCRIPTIONS: Final = ("README.md", "croissant.json", "manifest.json")
_TYPES: Final = {".md": "text/markdown", ".json": "application/json", ".py": "text/x-python", ".lock": "text/yaml",
                 ".yaml": "text/yaml", ".txt": "text/plain", ".parquet": "application/vnd.apache.parquet",
                 ".svg": "image/svg+xml"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Written:
    """What a crate holds."""

    entities: int
    files: int
    timed: tuple[str, ...]
    """Stages whose times are in it."""
    untimed: Mapping[str, str]
    """The other stages, with the reason."""


def write(project: Path, out: Path, settings: Params) -> Written:
    """Write the crate of the version in `project` into the new folder `out`; raises `locked.LockError`."""
    from rocrate.rocrate import ROCrate  # noqa: PLC0415 - imports requests and more

    recorded = locked.read(project)
    traces = stage_times.read(project / "data", project / "metrics")
    crate = ROCrate(version="1.1", gen_preview=False)
    crate.metadata.extra_contexts.append(entities.CONTEXT)
    run = _Run(crate, project, recorded, traces, settings)
    run.describe()
    crate.write(out)
    written = json.loads((out / METADATA).read_text())["@graph"]
    files = sum(path.is_file() for path in out.rglob("*")) - 1
    timed = tuple(trace.stage for trace in traces.ours)
    missing = {stage.name: traces.missing.get(stage.name, "it has no parts") for stage in recorded.stages}
    return Written(len(written), files, timed, {name: why for name, why in missing.items() if name not in timed})


class _Run:
    """Adds the entities of one version to a crate, in the order in which they refer to each other."""

    def __init__(
        self,
        crate: ROCrate,
        project: Path,
        recorded: locked.Locked,
        traces: stage_times.Traces,
        settings: Params,
    ) -> None:
        self._crate, self._project, self._recorded, self._settings = crate, project, recorded, settings
        self._traces = {trace.stage: trace for trace in traces.ours}
        self._agent = self._add(entities.agent(settings.release))
        self._data: dict[str, Entity] = {}
        self._parameters: dict[str, tuple[Entity, Entity]] = {}

    def describe(self) -> None:
        """Add everything."""
        workflow = self._workflow()
        self._root()
        self._parameters = {key: self._parameter(key, value) for key, value in self._recorded.parameters().items()}
        for file in self._recorded.files().values():
            self._data[file.path] = self._file(file)
        self._release_files()
        tools, steps, controls, actions = [], [], [], []
        for place, stage in enumerate(self._recorded.stages, 1):
            tool = self._tool(stage)
            step = self._add(entities.step(stage, place, tool))
            action = self._action(stage, tool)
            controls.append(self._add(entities.control(stage, step, action)))
            tools.append(tool)
            steps.append(step)
            actions.append(action)
        workflow["hasPart"] = tools
        workflow["step"] = steps
        self._connect(dict(zip((stage.name for stage in self._recorded.stages), steps, strict=True)))
        whole = self._whole(workflow, actions)
        engine = self._add(entities.engine(version("dvc")))
        organized = self._add(entities.organize(engine, controls, whole, self._agent))
        self._crate.root_dataset["mentions"] = [whole, *actions, organized]

    def _add(self, described: entities.Described) -> ContextEntity:
        from rocrate.model.contextentity import ContextEntity  # noqa: PLC0415

        entity: ContextEntity = self._crate.add(ContextEntity(self._crate, described.id, dict(described.properties)))
        return entity

    def _workflow(self) -> Entity:
        from rocrate.model.computerlanguage import ComputerLanguage  # noqa: PLC0415

        of_pipelines = entities.language()
        language = self._crate.add(ComputerLanguage(self._crate, of_pipelines.id, dict(of_pipelines.properties)))
        laion_dask = self._add(entities.package(version("laion-dask")))
        workflow = self._crate.add_workflow(
            self._project / locked.PIPELINE, locked.PIPELINE, main=True, lang=language,
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": "laion_dask: images and their alt texts from a web crawl to a released version",
                "version": version("laion-dask"),
                "license": {"@id": _WORKFLOW_LICENSE},
                "encodingFormat": "text/yaml",
            },
        )  # fmt: skip
        workflow["softwareRequirements"] = laion_dask
        self._add(entities.license_of_workflow(_WORKFLOW_LICENSE))
        return workflow

    def _root(self) -> None:
        release, root = self._settings.release, self._crate.root_dataset
        profiles = [self._add(profile) for profile in entities.profiles()]
        root["conformsTo"] = profiles
        root["name"] = f"{release.name} {release.version}"
        root["description"] = (
            f"How the dataset {release.name} {release.version} was built: workflow, parameters, and the digests of "
            f"what each of {len(self._recorded.stages)} stages read and wrote. Tables are named by digest."
        )
        root["license"] = self._add(entities.license_of_data(croissant.LICENSE))
        root["author"] = self._agent
        root["creator"] = self._agent
        root["publisher"] = self._agent
        root["version"] = release.version
        root["url"] = release.url
        self._crate.datePublished = self._published()
        for name in (locked.LOCK, locked.PARAMETERS, "requirements.lock"):
            if (self._project / name).is_file():
                self._data[name] = self._local(name)

    def _published(self) -> str:
        """Return the day of publication as card and Croissant have it, never the clock's."""
        given = self._settings.release.published
        described = self._project / _RELEASE / croissant.NAME
        if given is None and described.is_file():
            return str(json.loads(described.read_text())["datePublished"])
        return given.isoformat() if given else "1970-01-01"

    def _parameter(self, key: str, value: object) -> tuple[Entity, Entity]:
        formal = self._add(entities.formal_value(key, value))
        actual = self._add(entities.value(key, value, formal))
        formal["workExample"] = actual
        return formal, actual

    def _local(self, name: str, **further: object) -> Entity:
        path = self._project / name
        about = {
            "name": name,
            "encodingFormat": _TYPES.get(path.suffix, "application/octet-stream"),
            "contentSize": str(path.stat().st_size),
            **further,
        }
        entity: Entity = self._crate.add_file(path, name, properties=about)
        return entity

    def _file(self, file: locked.LockedFile) -> Entity:
        """Add a file or folder: with its bytes if Git keeps it, else by its address and digest."""
        small = file.path.startswith("metrics/") and (self._project / file.path).is_file()
        if small:
            entity = self._local(file.path)
        else:
            add = self._crate.add_dataset if file.is_folder else self._crate.add_file
            entity = add(entities.address(self._recorded.sha256, file), properties={"name": file.path})
            entity["contentSize"] = str(file.bytes)
            if file.is_folder:
                entity["description"] = f"{file.files:,} files, {file.bytes:,} bytes"
            else:
                entity["encodingFormat"] = _TYPES.get(Path(file.path).suffix, "application/octet-stream")
        entity["identifier"] = self._add(entities.digest(file))
        return entity

    def _place(self, owner: str, way: str, file: locked.LockedFile) -> Entity:
        """Return the parameter of a stage, or of the workflow, that a file or folder was given or written for."""
        described = entities.formal_file(owner, way, file)
        found: Entity | None = self._crate.get(described.id)
        if found is None:
            entity = self._data[file.path]
            found = self._add(described)
            found["workExample"] = entity
            entity.append_to("exampleOfWork", found)
        return found

    def _release_files(self) -> None:
        """Add the files of the release with the digests of its manifest."""
        folder = self._project / _RELEASE
        if not (folder / "manifest.json").is_file():
            return
        parts = [self._local(f"{_RELEASE}/{name}") for name in _DESCRIPTIONS if (folder / name).is_file()]
        listed: Mapping[str, Mapping[str, Any]] = json.loads((folder / "manifest.json").read_text())["files"]
        for name, about in listed.items():
            if name in _DESCRIPTIONS:
                continue
            file = locked.LockedFile(f"{_RELEASE}/{name}", "", int(about["bytes"]), 1)
            rows = {"description": f"{about['rows']:,} rows"} if "rows" in about else {}
            parts.append(
                self._crate.add_file(
                    entities.address(self._recorded.sha256, file),
                    properties={
                        "name": file.path,
                        "contentSize": str(file.bytes),
                        "encodingFormat": _TYPES.get(Path(name).suffix, "application/octet-stream"),
                        "sha256": about["sha256"],
                        **rows,
                    },
                )
            )
        self._data[_RELEASE]["hasPart"] = parts

    def _tool(self, stage: locked.LockedStage) -> Entity:
        tool = self._local(f"workflow/{stage.name}.py", **{"@type": ["File", "SoftwareSourceCode"]})
        tool["name"] = f"{stage.name}: {stage.command}"
        tool["description"] = stage.description
        tool["version"] = version("laion-dask")
        tool["input"] = [
            *(self._place(stage.name, "input", file) for file in stage.data_read),
            *(self._parameters[key][0] for key in stage.parameters),
        ]
        tool["output"] = [self._place(stage.name, "output", file) for file in stage.written]
        return tool

    def _action(self, stage: locked.LockedStage, tool: Entity) -> Entity:
        trace = self._traces.get(stage.name)
        return self._crate.add_action(
            tool,
            f"#run-{stage.name}",
            object=[
                *(self._data[file.path] for file in stage.data_read),
                *(self._parameters[key][1] for key in stage.parameters),
            ],
            result=[self._data[file.path] for file in stage.written],
            properties={
                "name": f"run of {stage.name}",
                "description": entities.how_it_ran(trace),
                "actionStatus": entities.COMPLETED,
                "agent": {"@id": self._agent.id},
                **(entities.times([trace]) if trace else {}),
            },
        )

    def _connect(self, steps: Mapping[str, Entity]) -> None:
        """Say which stages' outs other stages read: of folders, and of the files in them."""
        written = {file.path: (stage.name, file) for stage in self._recorded.stages for file in stage.written}
        for stage in self._recorded.stages:
            connections = []
            for file in stage.data_read:
                source = next((path for path in written if file.path == path or file.path.startswith(f"{path}/")), None)
                if source is not None:
                    writer, out = written[source]
                    ends = self._place(writer, "output", out), self._place(stage.name, "input", file)
                    connections.append(self._add(entities.connection(writer, stage.name, file.path, *ends)))
            if connections:
                steps[stage.name]["connection"] = connections if len(connections) > 1 else connections[0]

    def _whole(self, workflow: Entity, actions: Sequence[Entity]) -> Entity:
        """Add the run of the workflow: its inputs are what no stage wrote."""
        written = {file.path for stage in self._recorded.stages for file in stage.written}
        given = [
            file for path, file in self._recorded.files().items()
            if not any(path == out or path.startswith(f"{out}/") for out in written)
        ]  # fmt: skip
        last = [file for stage in self._recorded.stages for file in stage.written]
        workflow["input"] = [
            *(self._place("workflow", "input", file) for file in given),
            *(formal for formal, _ in self._parameters.values()),
        ]
        workflow["output"] = [self._place("workflow", "output", file) for file in last]
        traced = [self._traces[stage.name] for stage in self._recorded.stages if stage.name in self._traces]
        without = len(self._recorded.stages) - len(traced)
        how = f"{len(actions)} stages; the times of {without} of them are not known" if without else "all stages"
        return self._crate.add_action(
            workflow,
            "#run",
            object=[*(self._data[file.path] for file in given), *(actual for _, actual in self._parameters.values())],
            result=[self._data[file.path] for file in last],
            properties={
                "name": f"build of {self._settings.release.name} {self._settings.release.version}",
                "description": f"`dvc repro`: {how}. Stages that had not changed kept the results of earlier runs.",
                "actionStatus": entities.COMPLETED,
                "agent": {"@id": self._agent.id},
                **(entities.times(traced) if traced else {}),
            },
        )
