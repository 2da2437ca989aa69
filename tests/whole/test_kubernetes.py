"""The files for Kubernetes fit each other and this project, and the models of Kubernetes and of Dask's operator.

No Kubernetes runs in the tests: nothing here shows that a cluster would start. Where dask-kubernetes is installed
(`pip install 'laion-dask[cluster]' jsonschema`), the files are checked against the models that it brings.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made.checkout import tracked
from made.places import ROOT
from ruamel.yaml import YAML

FOLDER = ROOT / "docs" / "kubernetes"
MANIFESTS = ("namespace.yaml", "storage.yaml", "rights.yaml", "network.yaml", "run.yaml", "try.yaml")
CLUSTERS = ("dask-cluster.yaml", "dask-cluster-gpu.yaml")
SETTINGS = "laion-dask.yaml"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
WHY = "needs dask-kubernetes, which is no package of the tests: pip install 'laion-dask[cluster]' jsonschema"


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe", pure=True).load_all(FOLDER / name))


def one(name: str) -> dict[str, Any]:
    (found,) = documents(name)
    return found


def pods(name: str) -> Iterator[dict[str, Any]]:
    """Yield the pods of a manifest."""
    for document in documents(name):
        spec = document["spec"]
        if document["kind"] == "Job":
            yield spec["template"]["spec"]
        else:
            yield from (spec["scheduler"]["spec"], spec["worker"]["spec"])


def containers(name: str) -> Iterator[dict[str, Any]]:
    for pod in pods(name):
        yield from (*pod.get("initContainers", ()), *pod["containers"])


RUNNING = (*CLUSTERS, "run.yaml", "try.yaml")

# The files alone


def test_kustomize_names_every_file_but_the_two_that_start_something() -> None:
    found = one("kustomization.yaml")
    (settings,) = found["configMapGenerator"]
    assert [*found["resources"], "run.yaml", "try.yaml"] == [*MANIFESTS]
    assert settings["files"] == [SETTINGS, *CLUSTERS]
    there = {path.name for path in tracked("docs/kubernetes/*")}
    assert there == {*MANIFESTS, *CLUSTERS, SETTINGS, "kustomization.yaml", "Dockerfile"}


def test_all_files_mean_the_same_image_namespace_and_volume() -> None:
    images = {container["image"] for name in RUNNING for container in containers(name)}
    assert images == {"registry.example/laion-dask:1"}
    namespaces = [one("kustomization.yaml")["namespace"], one("namespace.yaml")["metadata"]["name"]]
    namespaces += [
        document["metadata"]["namespace"]
        for name in (*MANIFESTS[1:], *CLUSTERS)
        for document in documents(name)
        if "namespace" in document["metadata"] or name != "namespace.yaml"
    ]
    assert set(namespaces) == {"laion"}
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for name in RUNNING
        for pod in pods(name)
        for volume in pod.get("volumes", ())
        if "persistentVolumeClaim" in volume
    }
    assert claims == {one("storage.yaml")["metadata"]["name"]}
    assert one("storage.yaml")["spec"]["accessModes"] == ["ReadWriteMany"]


@pytest.mark.parametrize("name", RUNNING)
def test_driver_and_workers_see_the_project_at_the_same_path_and_run_its_code(name: str) -> None:
    of_project = {
        mount["mountPath"]
        for container in containers(name)
        for mount in container.get("volumeMounts", ())
        if mount["name"] == "project"
    }
    assert of_project == {"/project"}
    assert "ENV PYTHONPATH=/project" in DOCKERFILE
    for pod in pods(name):
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        mounted = {mount["name"] for inside in pod["containers"] for mount in inside.get("volumeMounts", ())}
        assert mounted == volumes
        assert pod["securityContext"]["runAsNonRoot"]
        assert f"--uid {pod['securityContext']['runAsUser']} " in DOCKERFILE


def test_the_driver_reads_the_settings_that_lie_beside_the_files_they_name() -> None:
    for name in ("run.yaml", "try.yaml"):
        (pod,) = pods(name)
        (driver,) = pod["containers"]
        configured = {variable["name"]: variable["value"] for variable in driver["env"]}["DASK_CONFIG"]
        (mount,) = [mount for mount in driver["volumeMounts"] if mount["name"] == "settings"]
        assert configured == f"{mount['mountPath']}/{SETTINGS}"
        (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "settings"]
        assert volume["configMap"]["name"] == one("kustomization.yaml")["configMapGenerator"][0]["name"]
        assert pod["serviceAccountName"] == documents("rights.yaml")[0]["metadata"]["name"]
    text = (FOLDER / SETTINGS).read_text()
    named = re.findall(rf"custom_cluster_spec: {mount['mountPath']}/(\S+)", text)
    assert named == [*CLUSTERS]


def test_no_file_holds_a_secret() -> None:
    text = "".join(path.read_text() for path in tracked("docs/kubernetes/*"))
    assert not re.search(r"kind: Secret|AWS_SECRET|password|DSN, value", text, re.IGNORECASE)
    for name in RUNNING:
        sources = [source for container in containers(name) for source in container.get("envFrom", ())]
        assert all(source == {"secretRef": {"name": "laion-dask", "optional": True}} for source in sources)


def test_the_image_is_made_of_files_that_exist_and_of_the_versions_of_this_project() -> None:
    for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert [name for name in line.split() if not (ROOT / name).exists()] == []
    makefile = (ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert f"uv=={version} " in DOCKERFILE
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "FROM python:3.11-" in DOCKERFILE
    assert project["requires-python"].startswith(">=3.11")
    extras = {*project["optional-dependencies"]["cluster"], *project["optional-dependencies"]["remotes"]}
    assert {"dask-kubernetes", "dvc-s3"} <= extras
    assert re.search(r"dask-kubernetes==\S+ dvc-s3==", DOCKERFILE)


def test_the_settings_are_those_that_the_cluster_knows() -> None:
    settings = one(SETTINGS)["laion-dask"]["cluster"]
    assert settings["kind"] == "dask_kubernetes.operator.KubeCluster"
    assert settings["catalog"]["kind"] == "local"
    known = {"kind", "options", "workers", "adapt", "patience", "catalog"}
    assert settings.keys() <= known


def test_the_page_says_that_nothing_of_it_was_started_and_names_every_file() -> None:
    page = (ROOT / "docs" / "cluster-kubernetes.md").read_text()
    assert "No Kubernetes was available: nothing on this page was started" in page
    assert [path.name for path in tracked("docs/kubernetes/*") if f"kubernetes/{path.name}" not in page] == []


# Against the models of Kubernetes and of the operator


@pytest.fixture(scope="module")
def client() -> Any:  # noqa: ANN401 - a module that the tests need not have
    pytest.importorskip("dask_kubernetes", reason=WHY)
    return pytest.importorskip("kubernetes.client", reason=WHY)


def check(client: Any, kind: str, value: Any) -> None:  # noqa: ANN401 - as above
    """Read a value as one of Kubernetes' models: no unknown field, none missing, each of its type."""
    getattr(client, kind).model_validate(value)


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifests_fit_the_models_of_kubernetes(client: Any, name: str) -> None:  # noqa: ANN401
    for document in documents(name):
        check(client, f"V1{document['kind']}", document)


def test_a_field_that_does_not_exist_would_be_found(client: Any) -> None:  # noqa: ANN401
    job = one("run.yaml")
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    with pytest.raises(ValueError, match=r"volumeMount\s+Extra inputs are not permitted"):
        check(client, "V1Job", job)
    del job["spec"]["template"]
    with pytest.raises(ValueError, match=r"template\s+Field required"):
        check(client, "V1Job", job)


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_dask_clusters_fit_the_definition_that_the_operator_installs(client: Any, name: str) -> None:  # noqa: ANN401
    jsonschema = pytest.importorskip("jsonschema", reason=WHY)
    import dask_kubernetes

    crds = Path(dask_kubernetes.__file__).parent / "operator/deployment/helm/dask-kubernetes-operator/crds"
    definition = YAML(typ="safe", pure=True).load(crds / "daskcluster.yaml")
    (version,) = definition["spec"]["versions"]
    cluster = one(name)
    assert cluster["apiVersion"] == f"{definition['spec']['group']}/{version['name']}"
    assert cluster["kind"] == definition["spec"]["names"]["kind"]
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {name: {"type": "string"} for name in ("apiVersion", "kind")} | {"metadata": {}}
    validator = jsonschema.Draft202012Validator(schema)
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(cluster)] == []
    cluster["spec"]["worker"]["replica"] = 3
    assert not validator.is_valid(cluster)
    for part in ("scheduler", "worker"):
        check(client, "V1PodSpec", cluster["spec"][part]["spec"])
    check(client, "V1ServiceSpec", cluster["spec"]["scheduler"]["service"])


def closed(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a schema that refuses unknown fields, which Kubernetes would drop in silence."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    return found


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_dask_clusters_have_what_the_operator_would_generate(client: Any, name: str) -> None:  # noqa: ANN401
    from dask_kubernetes.operator.kubecluster.kubecluster import make_cluster_spec

    ours = one(name)
    theirs = make_cluster_spec(ours["metadata"]["name"], image="registry.example/laion-dask:1", n_workers=1)
    assert ours["spec"]["scheduler"]["service"] == theirs["spec"]["scheduler"]["service"]
    (scheduler,), (generated,) = (spec["spec"]["scheduler"]["spec"]["containers"] for spec in (ours, theirs))
    assert scheduler["ports"] == generated["ports"]
    for probe in ("readinessProbe", "livenessProbe"):
        assert scheduler[probe]["httpGet"] == generated[probe]["httpGet"]
    (worker,), (generated,) = (spec["spec"]["worker"]["spec"]["containers"] for spec in (ours, theirs))
    assert worker["name"] == generated["name"]
    named = generated["args"].index("--name")
    assert " ".join(generated["args"][named : named + 2]) in " ".join(worker["args"])
    assert client


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_pods_that_the_operator_makes_fit_the_models_and_tell_workers_where_the_scheduler_is(
    client: Any,  # noqa: ANN401
    name: str,
) -> None:
    from dask_kubernetes.operator.controller import controller

    cluster = one(name)
    called = cluster["metadata"]["name"]
    scheduler, worker = (cluster["spec"][part] for part in ("scheduler", "worker"))
    made = controller.build_scheduler_deployment_spec(called, scheduler["spec"], {}, {})
    check(client, "V1Deployment", made)
    check(client, "V1Service", controller.build_scheduler_service_spec(called, scheduler["service"], {}, {}))
    made = controller.build_worker_deployment_spec("group", "laion", called, "1", worker["spec"], {}, {})
    check(client, "V1Deployment", made)
    (container,) = made["spec"]["template"]["spec"]["containers"]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables["DASK_SCHEDULER_ADDRESS"] == f"tcp://{called}-scheduler.laion.svc.cluster.local:8786"
    assert variables["OMP_NUM_THREADS"] == "1"


def test_the_options_are_arguments_of_the_class_and_its_name_is_allowed(client: Any) -> None:  # noqa: ANN401
    from dask_kubernetes.operator import KubeCluster
    from dask_kubernetes.operator.validation import validate_cluster_name
    from distributed.deploy.cluster import Cluster

    assert issubclass(KubeCluster, Cluster)
    options = one(SETTINGS)["laion-dask"]["cluster"]["options"]
    assert options.keys() <= inspect.signature(KubeCluster).parameters.keys()
    for name in CLUSTERS:
        validate_cluster_name(one(name)["metadata"]["name"])
    assert client


def test_the_driver_may_do_what_the_class_asks_for(client: Any) -> None:  # noqa: ANN401
    from dask_kubernetes.operator import _objects

    resources = {rule for role in documents("rights.yaml")[1:2] for one in role["rules"] for rule in one["resources"]}
    classes = [getattr(_objects, name) for name in ("DaskCluster", "DaskWorkerGroup", "DaskAutoscaler")]
    assert {kind.plural for kind in classes} <= resources
    assert {f"{kind.plural}/scale" for kind in classes if kind.scalable and kind.plural != "daskclusters"} <= resources
    assert client


def test_the_worker_is_started_with_options_that_dask_has() -> None:
    from distributed.cli.dask_scheduler import main as scheduler
    from distributed.cli.dask_worker import main as worker

    for name in CLUSTERS:
        for command, part in ((scheduler, "scheduler"), (worker, "worker")):
            (container,) = one(name)["spec"][part]["spec"]["containers"]
            program, said, *rest = container["args"]
            assert (program, said) == ("dask", part)
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in rest if word.startswith("--")} <= known
