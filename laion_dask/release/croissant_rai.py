"""Write the properties of Croissant RAI 1.0: how a release was made, and its limits.

All twenty properties of the specification's tables are given, also those that do not apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from laion_dask import params
from laion_dask.release import limitations
from laion_dask.release.manifest import Made


def properties(made: Made, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the twenty properties, with `rai:` before each name; `numbers` come from `composition.measure`."""
    settings, counts = made.settings, made.counts
    crawls = ", ".join(f"{crawl} ({count:,} WAT files)" for crawl, count in made.crawls().items())
    models = [f"{about['model']} (weights sha256 {about['weights_sha256']})" for about in made.models.values()]
    attempts = counts["download"]["images"]
    rules = settings.filter
    texts: dict[str, Any] = {
        "dataCollection": (
            f"Image links with alternative text were read from WAT files of web crawls: {crawls}. Of equal pairs one "
            "stayed, removals were applied, the images fetched under the limits and opt-outs of section download, then "
            "scored and filtered. Parameters, counts and digests stand in manifest.json."
        ),
        "dataCollectionType": ["Web Scraping", "Secondary Data Analysis"],
        "dataCollectionMissingData": (
            f"Of {attempts['seen']:,} images that were asked for, {attempts['kept']:,} could be had; each of the "
            "others has a reason in the funnel. A score that could not be computed is NaN or null."
        ),
        "dataCollectionRawData": (
            "WAT files of the crawls; each pair names crawl, WAT and offset of the record that it was read from."
        ),
        "dataCollectionTimeframe": [day for day in made.pages if day],
        "dataImputationProtocol": "Nothing is imputed: what is unknown stays null, NaN or empty.",
        "dataManipulationProtocol": (
            "Texts were cleaned by extract.text_steps and cut at extract.max_chars; addresses were resolved and "
            "normalised; images, which are not part of this, were resized for scoring."
        ),
        "dataPreprocessingProtocol": [
            (
                f"similarity: lowest kept {rules.similarity.en:g} (en), {rules.similarity.multi:g} (multi), "
                f"{rules.similarity.nolang:g} (nolang)"
            ),
            f"unsafe: dropped above {rules.max_punsafe:g}; watermark: dropped above {rules.max_pwatermark:g}",
            f"size: shorter side at least {rules.min_side_px} px, longer at most {rules.max_aspect_ratio:g} times it",
            "known content: matched against lists of md5 and sha256 digests, whose entries are never published",
        ],
        "dataAnnotationProtocol": ["No human annotated anything; every score is computed by a model."],
        "dataAnnotationPlatform": ["None"],
        "dataAnnotationAnalysis": ["None: there are no annotators whose agreement could be measured."],
        "annotationsPerItem": "0 by humans; one value of each model",
        "annotatorDemographics": ["Not applicable"],
        "machineAnnotationTools": [
            *models,
            *(f"head {head.kind}" for head in settings.score.heads or ()),
            _language(settings, counts),
        ],
        "dataReleaseMaintenancePlan": (
            f"Removals are asked for at: {settings.release.contact}. They go into a ledger; the pair is out of every "
            "later version, and a tombstone with the digest of its uid says so."
        ),
        "personalSensitiveInformation": limitations.personal(settings, counts),
        "dataSocialImpact": (
            "Shows what is linked on the web, with its stereotypes; models trained on it learn them. The crawls are "
            "public; their pages were not written for this."
        ),
        "dataBiases": limitations.biases(settings),
        "dataLimitations": limitations.limits(settings, numbers),
        "dataUseCases": limitations.uses(settings),
    }
    return {f"rai:{name}": value for name, value in texts.items()}


def _language(settings: params.Params, counts: Mapping[str, Any]) -> str:
    detector = f"language: {settings.extract.language_detector}"
    model = counts["extract"].get("language_model")
    return f"{detector}, {model['file']} (sha256 {model['sha256']})" if model else detector
