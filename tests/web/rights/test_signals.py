"""The small grammars: path patterns and licence addresses."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_dask.extract.license_ids import license_id
from laion_dask.web.rights.path_rules import matches, normal_path
from laion_dask.web.rights.signals import LICENSE_HOSTS


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/", "/x", True),
        ("", "/x", True),
        ("/a", "/ab", True),
        ("/a$", "/ab", False),
        ("/a$", "/a", True),
        ("/a*c", "/abbcd", True),
        ("/a*c$", "/abbcd", False),
        ("/a*c$", "/acbc", True),
        ("*", "/x", True),
        ("*$", "/x", True),
        ("/a**b", "/axb", True),
        ("/ab*b$", "/ab", False),
        ("/a?b=1", "/a?b=1&c", True),
        ("/%C3%A4", "/ä", True),
        ("/ä", "/%c3%a4", True),
        ("/%7Ea", "/~a", True),
        ("/a%2Fb", "/a/b", False),
    ],
)
def test_patterns_match_as_in_robots_txt(pattern: str, path: str, expected: bool) -> None:  # noqa: FBT001
    assert matches(normal_path(pattern), normal_path(path)) is expected


def test_a_hostile_pattern_costs_no_time() -> None:
    start = time.process_time()
    assert not matches("/" + "a*" * 5000 + "b$", "/" + "a" * 20_000)
    assert time.process_time() - start < 1


CC = "https://creativecommons.org"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        # Creative Commons: every element, version, port and way to write the address
        (f"{CC}/licenses/by/4.0/", "CC-BY-4.0"),
        (f"{CC}/licenses/by-sa/4.0/", "CC-BY-SA-4.0"),
        (f"{CC}/licenses/by-nd/3.0/", "CC-BY-ND-3.0"),
        (f"{CC}/licenses/by-nc/2.5/", "CC-BY-NC-2.5"),
        (f"{CC}/licenses/by-nc-sa/2.0", "CC-BY-NC-SA-2.0"),
        (f"{CC}/licenses/by-nc-nd/1.0", "CC-BY-NC-ND-1.0"),
        (f"{CC}/licenses/by/4.0/?ref=chooser-v1", "CC-BY-4.0"),
        (f"{CC}/licenses/by/4.0/#x", "CC-BY-4.0"),
        (f"{CC}/licenses/by/4.0/legalcode", "CC-BY-4.0"),
        (f"{CC}/licenses/by/4.0/legalcode.de", "CC-BY-4.0"),
        (f"{CC}/licenses/by/4.0/deed", "CC-BY-4.0"),
        (f"{CC}/licenses/by/4.0/rdf", "CC-BY-4.0"),
        (f"  {CC}/licences/by/4.0/ ", "CC-BY-4.0"),
        ("http://www.creativecommons.org/licenses/BY-NC/4.0/deed.an", "CC-BY-NC-4.0"),
        ("HTTP://CREATIVECOMMONS.ORG/LICENSES/BY/3.0/US/", "CC-BY-3.0-US"),
        ("//creativecommons.org/licenses/by-sa/3.0", "CC-BY-SA-3.0"),
        (f"{CC}/licenses/by/2.0/de/", "CC-BY-2.0-DE"),
        (f"{CC}/licenses/by-nc-sa/2.5/mx/deed.es", "CC-BY-NC-SA-2.5-MX"),
        (f"{CC}/licenses/by/2.5/scotland/", "CC-BY-2.5-SCOTLAND"),
        (f"{CC}/licenses/by/3.0/igo/legalcode", "CC-BY-3.0-IGO"),
        (f"{CC}/licenses/by/4.0/de/", "CC-BY-4.0"),
        (f"{CC}/licenses/by/3.0/deed.de", "CC-BY-3.0"),
        (f"{CC}/licenses/by", "CC-BY"),
        (f"{CC}/licenses/by-sa/", "CC-BY-SA"),
        (f"{CC}/licenses/by-sa/deed.de", "CC-BY-SA"),
        # The public domain
        (f"{CC}/publicdomain/zero/1.0/", "CC0-1.0"),
        (f"{CC}/publicdomain/zero/1.0/deed.de", "CC0-1.0"),
        (f"{CC}/publicdomain/zero", "CC0-1.0"),
        (f"{CC}/publicdomain/mark/1.0/", "CC-PDM-1.0"),
        (f"{CC}/publicdomain/certification/1.0/us/", "CC-PDDC"),
        (f"{CC}/licenses/publicdomain/", "CC-PDDC"),
        # Retired, and lent
        (f"{CC}/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        (f"{CC}/licenses/nd-nc/1.0/", "CC-NC-ND-1.0"),
        (f"{CC}/licenses/nc-sa/1.0/", "CC-NC-SA-1.0"),
        (f"{CC}/licenses/sa/1.0/", "CC-SA-1.0"),
        (f"{CC}/licenses/sampling/1.0/", "CC-SAMPLING-1.0"),
        (f"{CC}/licenses/sampling+/1.0/", "CC-SAMPLING-PLUS-1.0"),
        (f"{CC}/licenses/nc-sampling+/1.0/tw/", "CC-NC-SAMPLING-PLUS-1.0-TW"),
        (f"{CC}/licenses/devnations/2.0/", "CC-DEVNATIONS-2.0"),
        (f"{CC}/licenses/GPL/2.0/", "GPL-2.0"),
        (f"{CC}/licenses/LGPL/2.1/", "LGPL-2.1"),
        (f"{CC}/licenses/MIT/", "MIT"),
        # No licence of Creative Commons
        (f"{CC}/", ""),
        (CC, ""),
        (f"{CC}/licenses/", ""),
        (f"{CC}/licenses/by-foo/4.0/", ""),
        (f"{CC}/licenses/bysa/4.0/", ""),
        (f"{CC}/about/licenses/meet-the-licenses", ""),
        (f"{CC}/images/public/somerights20.png", ""),
        ("https://notcreativecommons.org/licenses/by/4.0/", ""),
        ("https://creativecommons.org.example/licenses/by/4.0/", ""),
        ("https://x.example/?u=https://creativecommons.org/licenses/by/4.0/", ""),
        ("/licenses/by/4.0/", ""),
        ("", ""),
        # Free documentation and software
        ("http://www.gnu.org/copyleft/fdl.html", "GFDL"),
        ("https://www.gnu.org/licenses/fdl-1.3.txt", "GFDL-1.3"),
        ("https://www.gnu.org/licenses/old-licenses/fdl-1.2.en.html", "GFDL-1.2"),
        ("https://www.gnu.org/licenses/gpl-3.0.en.html", "GPL-3.0"),
        ("http://gnu.org/licenses/gpl.html", "GPL"),
        ("https://www.gnu.org/licenses/old-licenses/gpl-2.0.html", "GPL-2.0"),
        ("https://www.gnu.org/licenses/lgpl-2.1.html", "LGPL-2.1"),
        ("http://www.gnu.org/copyleft/lesser.html", "LGPL"),
        ("https://www.gnu.org/licenses/agpl-3.0", "AGPL-3.0"),
        ("https://www.gnu.org/licenses/gpl-howto.html", ""),
        ("https://www.gnu.org/licenses/", ""),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("http://www.opensource.org/licenses/mit-license.php", "MIT"),
        ("https://opensource.org/license/mit/", "MIT"),
        ("https://opensource.org/license/bsd-3-clause/", "BSD-3-Clause"),
        ("http://opensource.org/licenses/bsd-license.php", "BSD"),
        ("https://opensource.org/licenses/Apache-2.0", "Apache-2.0"),
        ("https://opensource.org/licenses/alphabetical", ""),
        ("https://www.apache.org/licenses/LICENSE-2.0.html", "Apache-2.0"),
        ("https://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
        ("https://www.apache.org/licenses/", ""),
        ("https://www.mozilla.org/en-US/MPL/2.0/", "MPL-2.0"),
        ("https://www.mozilla.org/MPL/", "MPL"),
        ("https://unlicense.org/", "Unlicense"),
        ("https://artlibre.org/licence/lal/en/", "LAL"),
        # Data
        ("https://opendatacommons.org/licenses/odbl/1.0/", "ODbL-1.0"),
        ("https://opendatacommons.org/licenses/odbl/1-0/", "ODbL-1.0"),
        ("https://opendatacommons.org/licenses/by/v1-0/", "ODC-By-1.0"),
        ("https://opendatacommons.org/licenses/odbl/summary/", "ODbL"),
        ("http://www.nationalarchives.gov.uk/doc/open-government-licence/", "OGL-UK"),
        ("http://www.nationalarchives.gov.uk/doc/open-government-licence/version/1/", "OGL-UK-1.0"),
        ("https://www.nationalarchives.gov.uk/doc/open-government-licence/version/2", "OGL-UK-2.0"),
        ("https://www.nationalarchives.gov.uk/doc/open-government-licence/version/3/", "OGL-UK-3.0"),
        ("http://reference.data.gov.uk/id/open-government-licence", "OGL-UK"),
        ("https://www.nationalarchives.gov.uk/doc/non-commercial-government-licence/", ""),
        ("https://open.canada.ca/en/open-government-licence-canada", "OGL-Canada-2.0"),
        ("https://www.govdata.de/dl-de/by-2-0", "DL-DE-BY-2.0"),
        ("https://www.govdata.de/dl-de/zero-2-0", "DL-DE-ZERO-2.0"),
        # Statements about rights
        ("http://rightsstatements.org/vocab/InC/1.0/", "RS-InC-1.0"),
        ("https://rightsstatements.org/page/inc-ow-eu/1.0/?language=en", "RS-InC-OW-EU-1.0"),
        ("http://rightsstatements.org/vocab/NoC-US/1.0/", "RS-NoC-US-1.0"),
        ("http://rightsstatements.org/vocab/XYZ/1.0/", ""),
        # Terms of a site are no licence that is known here.
        ("https://img.example/terms", ""),
    ],
)
def test_addresses_of_licences_have_one_id(url: str, expected: str) -> None:
    assert license_id(url) == expected


@given(st.sampled_from(LICENSE_HOSTS), st.text(max_size=60), st.sampled_from(["/", "/licenses/", "/licenses/by/"]))
def test_an_id_is_short_and_plain_whatever_the_address(host: str, rest: str, folder: str) -> None:
    found = license_id(f"https://{host}{folder}{rest}")
    assert len(found) < 40
    assert found == "" or found.replace("-", "").replace(".", "").isalnum()
    assert found.isascii()


def test_a_hostile_address_costs_no_time() -> None:
    start = time.process_time()
    for url in (f"{CC}/licenses/{'by-' * 300_000}", " " * 1_000_000, f"https://{'a' * 1_000_000}.gnu.org/"):
        assert license_id(url) == ""
    assert license_id(f"https://www.gnu.org/licenses/gpl{'.a/' * 300_000}!") == ""
    assert time.process_time() - start < 1
