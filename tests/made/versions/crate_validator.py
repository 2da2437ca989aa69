"""The released validator of RO-Crates, asked without a network: the terms that our crates use stand here.

The contexts of RO-Crate 1.1 and of Workflow Run RO-Crate have more terms; a term that is not here is an error.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

PROFILE = "provenance-run-crate-0.5"
_SCHEMA = (
    *("about", "additionalType", "agent", "actionStatus", "alternateName", "author", "contentSize", "creator"),
    *("datePublished", "description", "encodingFormat", "endTime", "exampleOfWork", "hasPart", "identifier"),
    *("instrument", "license", "mainEntity", "mentions", "name", "object", "position", "programmingLanguage"),
    *("propertyID", "publisher", "result", "softwareRequirements", "softwareVersion", "startTime", "step", "url"),
    *("value", "valueRequired", "version", "workExample", "Dataset", "CreativeWork", "Organization"),
    *("SoftwareApplication", "SoftwareSourceCode", "ComputerLanguage", "HowTo", "HowToStep", "CreateAction"),
    *("ControlAction", "OrganizeAction", "PropertyValue"),
)
_BIOSCHEMAS = "https://bioschemas.org/"
_CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": {
        **{name: f"http://schema.org/{name}" for name in _SCHEMA},
        "File": "http://schema.org/MediaObject",
        "conformsTo": "http://purl.org/dc/terms/conformsTo",
        "ComputationalWorkflow": f"{_BIOSCHEMAS}ComputationalWorkflow",
        "FormalParameter": f"{_BIOSCHEMAS}FormalParameter",
        "input": f"{_BIOSCHEMAS}ComputationalWorkflow#input",
        "output": f"{_BIOSCHEMAS}ComputationalWorkflow#output",
    },
    "https://w3id.org/ro/terms/workflow-run/context": {
        name: f"https://w3id.org/ro/terms/workflow-run#{name}"
        for name in ("ParameterConnection", "connection", "sourceParameter", "targetParameter", "sha256")
    },
}


class _Context:
    """A response with one of the contexts."""

    status_code = 200

    def __init__(self, url: str) -> None:
        self.text = json.dumps({"@context": _CONTEXTS[url]})
        self.content = self.text.encode()
        self.headers = {"Content-Type": "application/ld+json"}

    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.text))

    def raise_for_status(self) -> None:
        """Raise nothing."""


def issues(crate: Path, monkeypatch: pytest.MonkeyPatch, severity: str = "REQUIRED") -> list[str]:
    """Return what the validator finds against the profile, as `check: message`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        from rocrate_validator import services
        from rocrate_validator.utils.http import HttpRequester

        monkeypatch.setattr(HttpRequester, "get", staticmethod(lambda url, *_, **__: _Context(url)), raising=False)
        result = services.validate(
            {
                "rocrate_uri": str(crate),
                "profile_identifier": PROFILE,
                "requirement_severity": severity,
                "skip_availability_check": True,
                "no_cache": True,
            }
        )
    return [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]
