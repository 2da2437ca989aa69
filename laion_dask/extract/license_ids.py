"""Map the address of a licence to its SPDX id: Creative Commons, GNU, Apache, OGL and others."""

from __future__ import annotations

import re
from typing import Final

from laion_dask.web.rights.signals import LICENSE_ADDRESS


def license_id(url: str) -> str:
    """Return the id of the licence at an address, empty for an unknown address.

    Ids are those of SPDX, without `-only` or `-or-later`, which addresses do not contain: CC-BY-SA-4.0, GFDL-1.3, MIT.
    Licences that SPDX does not list follow its form: ports by their country (CC-BY-2.0-DE), the public domain mark
    CC-PDM-1.0, retired ones (CC-SAMPLING-PLUS-1.0), statements of rightsstatements.org (RS-InC-1.0). Without a version
    in the address, the id has none (CC-BY).
    """
    address = LICENSE_ADDRESS.match(url)
    if address is None:
        return ""
    host, path = address[1].lower(), address[2]
    if host == "creativecommons.org":
        return _creative_commons(path.lower())
    for pattern, name in _LICENSES.get(host, ()):
        if match := pattern.match(path):
            return f"{name}-{_version(match[1])}" if match.lastindex else name
    if host == "opensource.org" and (match := _OPEN_SOURCE.match(path)):
        return _OPEN_SOURCE_IDS.get(match[1].lower(), "")
    if host == "rightsstatements.org" and (match := _STATEMENT.match(path)):
        return f"RS-{_STATEMENTS[match[1].lower()]}-{match[2]}"
    return ""


def _version(written: str) -> str:
    return written.replace("-", ".") if len(written) > 1 else f"{written}.0"


_CC_PATH: Final = re.compile(
    r"/(?:licen[sc]es/([a-z+-]+)|publicdomain/(zero|mark|certification))"
    r"(?:/(\d\.\d)(?:/(scotland|igo|[a-z]{2})(?=/|$))?)?(?=/|$)"
)
_CC_WHOLE: Final = {
    "zero": "CC0-1.0",
    "mark": "CC-PDM-1.0",
    "certification": "CC-PDDC",
    "publicdomain": "CC-PDDC",
    "mit": "MIT",
}
_CC_ELEMENTS: Final = {
    *("by", "by-sa", "by-nd", "by-nc", "by-nc-sa", "by-nc-nd"),
    *("sa", "nd", "nc", "nc-sa", "nc-nd", "sampling", "sampling+", "nc-sampling+", "devnations"),  # retired
}
# Version 1.0 used another order of the elements.
_CC_REORDERED: Final = {"by-nd-nc": "by-nc-nd", "nd-nc": "nc-nd", "by-sa-nc": "by-nc-sa"}


def _creative_commons(path: str) -> str:
    match = _CC_PATH.match(path)
    if match is None:
        return ""
    elements, kind, version, port = match.groups()
    name = _CC_REORDERED.get(elements, elements) or kind
    if name in _CC_WHOLE:
        return _CC_WHOLE[name]
    # Creative Commons hosts deeds for these licences too.
    prefix = "" if name in {"gpl", "lgpl", "bsd"} else "CC-" if name in _CC_ELEMENTS else None
    if prefix is None:
        return ""
    # Version 4.0 has no ports: what looks like one is the language of the page.
    parts = [name.replace("+", "-plus"), version, port if version and version < "4" else None]
    return prefix + "-".join(part.upper() for part in parts if part)


def _pattern(path: str) -> re.Pattern[str]:
    # The address may continue with a language, a suffix or a slash.
    return re.compile(rf"{path}(?:[./][\w./-]*)?$", re.IGNORECASE)


_LICENSES: Final = {
    "gnu.org": tuple(
        (_pattern(rf"/(?:licenses/(?:old-licenses/)?|copyleft/){name}(?:-(\d\.\d))?"), spdx)
        for name, spdx in (("fdl", "GFDL"), ("agpl", "AGPL"), ("lgpl", "LGPL"), ("lesser", "LGPL"), ("gpl", "GPL"))
    ),
    "apache.org": ((_pattern(r"/licenses/LICENSE-(\d\.\d)"), "Apache"),),
    "mozilla.org": ((_pattern(r"/(?:[a-z-]+/)?MPL/(\d\.\d)"), "MPL"), (_pattern(r"/(?:[a-z-]+/)?MPL"), "MPL")),
    "opendatacommons.org": tuple(
        (_pattern(rf"/licenses/{name}(?:/v?(\d[.-]\d)|/summary)?"), spdx)
        for name, spdx in (("odbl", "ODbL"), ("by", "ODC-By"), ("pddl", "PDDL"))
    ),
    "nationalarchives.gov.uk": ((_pattern(r"/doc/open-government-licence(?:/version/(\d(?:\.\d)?))?"), "OGL-UK"),),
    "data.gov.uk": ((_pattern(r"/id/open-government-licence"), "OGL-UK"),),
    "open.canada.ca": (
        (_pattern(r"/en/open-government-licence-canada|/fr/licence-du-gouvernement-ouvert-canada"), "OGL-Canada-2.0"),
    ),
    "govdata.de": ((_pattern(r"/dl-de/by-(\d-\d)"), "DL-DE-BY"), (_pattern(r"/dl-de/zero-(\d-\d)"), "DL-DE-ZERO")),
    "artlibre.org": ((_pattern(r"/licen[cs]e(?:/lal)?"), "LAL"),),
    "unlicense.org": ((re.compile(r"/$"), "Unlicense"),),
}
_OPEN_SOURCE: Final = re.compile(r"/licenses?/([\w.-]+?)(?:-license)?(?:\.php|\.html)?/?$", re.IGNORECASE)
_OPEN_SOURCE_IDS: Final = {
    name.lower(): name
    for name in (
        *("MIT", "MIT-0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "Apache-2.0", "MPL-1.1", "MPL-2.0", "EPL-1.0"),
        *("EPL-2.0", "GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0", "Artistic-1.0", "Artistic-2.0", "Zlib"),
        *("AFL-3.0", "OSL-3.0", "EUPL-1.2", "Unlicense", "BSL-1.0", "OFL-1.1"),
    )
} | {"bsd": "BSD", "apache2.0": "Apache-2.0", "gpl": "GPL", "lgpl": "LGPL", "artistic": "Artistic"}
_STATEMENTS: Final = {
    name.lower(): name
    for name in (
        *("InC", "InC-OW-EU", "InC-EDU", "InC-NC", "InC-RUU", "NoC-CR", "NoC-NC", "NoC-OKLR", "NoC-US"),
        *("CNE", "UND", "NKC"),
    )
}
_STATEMENT: Final = re.compile(rf"/(?:vocab|page)/({'|'.join(_STATEMENTS)})/(\d\.\d)(?=/|$)", re.IGNORECASE)
