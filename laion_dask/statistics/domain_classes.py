"""Classify the domain of a host by who may register there, as far as its name shows that."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from laion_dask.web.urls import hostnames

CLASSES: Final = {
    "government": "gov, mil and their like under a country: gov.uk, gouv.fr, gob.mx",
    "education": "edu, and edu or ac under a country",
    "organisation": "org, ngo, and org under a country",
    "platform": "pages of others: a suffix of the private part of the Public Suffix List (github.io, blogspot.com)",
    "country": "any other domain of a country or territory",
    "generic": "any other domain: com, net, info, …",
    "reserved": "example, test, invalid and localhost (RFC 2606, RFC 6761)",
    "address": "an IP address instead of a name",
}
"""Every class with its meaning, in the order of reports."""

_BY_LABEL: Final = {
    **dict.fromkeys(("gov", "mil", "gob", "gouv", "gub", "govt"), "government"),
    **dict.fromkeys(("edu", "ac"), "education"),
    **dict.fromkeys(("org", "ngo"), "organisation"),
}
_RESERVED: Final = frozenset({"example", "test", "invalid", "localhost"})
_HOSTS_REMEMBERED: Final = 65_536


@lru_cache(maxsize=_HOSTS_REMEMBERED)
def domain_class(host: str) -> str:
    """Return the class of a host in normal form (lower case, punycode)."""
    name = host.removesuffix(".")
    last = name.rpartition(".")[2]
    if name.startswith("[") or name.replace(".", "").isdigit():
        return "address"
    if last in _RESERVED:
        return "reserved"
    public_suffix = hostnames.suffixes()(name)
    if public_suffix.is_private:
        return "platform"
    # The first label of the suffix: gov or gov.uk. `ac` alone is Ascension Island; `mil` is not a country.
    first = public_suffix.suffix.partition(".")[0]
    if first in _BY_LABEL and not (first == "ac" and first == public_suffix.suffix):
        return _BY_LABEL[first]
    return "country" if len(last) == 2 else "generic"
