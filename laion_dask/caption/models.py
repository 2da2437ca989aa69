"""Find, identify and describe the models of captioning: the captioner, the rankers, the repair."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from laion_dask import params
from laion_dask.caption import model_folders
from laion_dask.caption.model_folders import NamedModel
from laion_dask.clip import hub, weights
from laion_dask.clip import models as clip_models
from laion_dask.clip.clip import ModelError


class OpenClip(params.Model):
    """The captioner of kind coca, as open_clip knows it."""

    PLACE: ClassVar[str] = "caption"


def find(settings: params.Caption) -> None:
    """Find or fetch the weights and tokenizers of all models, before a cluster starts; raises `ModelError`."""
    captioner = of_captioner(settings)
    if isinstance(captioner, NamedModel):
        model_folders.find(captioner)
    else:
        _find_clip(captioner)
    for ranker in settings.rank:
        _find_clip(ranker)
    if (repair := of_repair(settings)) is not None:
        model_folders.find(repair)


def deciding(settings: params.Caption) -> list[Path | str]:
    """Return the digests and files that decide the captions, for the keys of parts; raises `ModelError`."""
    found: list[Path | str] = []
    for spec in (of_captioner(settings), *settings.rank, of_repair(settings)):
        if isinstance(spec, NamedModel):
            found += [model_folders.identify(spec), *model_folders.beside(spec)]
        elif spec is not None:
            found += [weights.identify(spec), *weights.files(spec)]
    return found


def about(settings: params.Caption) -> dict[str, Any]:
    """Return what identifies the models, for the metrics and the manifest: names, sha256s, precision, licences."""
    repair = of_repair(settings)
    return {
        **_about(of_captioner(settings)),
        "kind": settings.kind,
        "precision": settings.precision,
        "rank": [_about(ranker) | {"precision": ranker.precision, "keep": ranker.keep} for ranker in settings.rank],
        "repair": None if repair is None else _about(repair),
    }


def of_captioner(settings: params.Caption) -> NamedModel | OpenClip:
    """Return the captioner as the parameters name it."""
    if settings.kind != "coca":
        return NamedModel("caption.model", settings.model, settings.expect_sha256)
    if settings.model == "demo":
        raise ModelError("caption.model: the demo's captioner is of kind blip. Remedy: kind blip, or another model")
    return OpenClip(
        name="captioner",
        model=settings.model,
        pretrained=settings.pretrained,
        expect_sha256=settings.expect_sha256,
        precision=settings.precision,
    )


def of_repair(settings: params.Caption) -> NamedModel | None:
    """Return the model that repairs captions, if there is one."""
    repair = settings.repair
    return None if repair is None else NamedModel("caption.repair", repair.model, repair.expect_sha256)


def _find_clip(spec: params.Model) -> None:
    weights.find(spec)
    weights.fetch_tokenizer(spec)


def _about(spec: NamedModel | params.Model) -> dict[str, Any]:
    if isinstance(spec, NamedModel):
        return {
            "model": spec.known_as,
            "weights_sha256": model_folders.identify(spec),
            "licence": hub.licence(model_folders.find(spec)) or "unknown",
        }
    return {
        "model": clip_models.known_as(spec),
        "weights_sha256": weights.identify(spec),
        "licence": hub.licence(weights.find(spec).parent) or "unknown",
    }
