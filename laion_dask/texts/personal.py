"""Count personal data in the text and address of each pair, by kind; no value is ever stored.

Precision comes before recall, as most digits on the web are ids, dates and sizes:

- e-mail addresses: under a suffix of the Public Suffix List; in URLs in path, query and fragment, `%40` too.
- phones: valid according to libphonenumber. With `+` and country code anywhere; North American ones in their own
  punctuation, `(212) 555-0123`; other national ones only right after a word such as Tel or call. In URLs only with `+`.
- cards: prefix and length of a card scheme and check digit (Luhn). In texts ungrouped or in the groups printed on
  cards; those of 12 to 14 digits only if the text mentions a card. In URLs only grouped: other digits there are ids.
- accounts: IBANs by country, length and check digits, ungrouped or in groups of four; in URLs only in capitals.
- ips: public addresses in texts, IPv4 only of 8 digits or more: shorter ones are mostly version numbers.

Each character counts once, in the order emails, accounts, cards, ips, phones. Only the first `MAX_CHARS` are searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import unquote

from laion_dask.web.urls import hostnames

KINDS: Final = ("emails", "phones", "cards", "accounts", "ips")

MAX_CHARS: Final = 4_000
"""Characters of a text or address that are searched."""

# Matches of one pattern checked per text: rejecting a candidate can cost a millisecond.
_MAX_CANDIDATES: Final = 50

# Pairs prefiltered at once, so that their bytes stay in the processor's cache.
_BATCH: Final = 1_000


def count(texts: Sequence[str], urls: Sequence[str]) -> dict[str, list[int]]:
    """Count personal data over text and URL of each pair, by kind (`KINDS`). Raises ValueError for unequal lengths."""
    if len(texts) != len(urls):
        raise ValueError(f"{len(texts)} texts and {len(urls)} urls: each pair has one of both")
    counts = {kind: [0] * len(texts) for kind in KINDS}
    for start in range(0, len(texts), _BATCH):
        for values, suspects, find in ((texts, _suspect_texts, _in_text), (urls, _suspect_urls, _in_url)):
            batch = [value[:MAX_CHARS] for value in values[start : start + _BATCH]]
            for place in suspects(batch):
                for kind in find(batch[place]):
                    counts[kind][start + place] += 1
    return counts


# --- prefilter: most pairs contain nothing, and a regular expression for each would dominate the cost ----------------

# Digits become 0, capitals A, separators between groups of digits in a URL a hyphen.
_MASK: Final = bytes.maketrans(b"123456789BCDEFGHIJKLMNOPQRSTUVWXYZ_. ", b"0" * 9 + b"A" * 25 + b"---")
# Separators between the digits of a number in a text.
_BETWEEN: Final = b" \t.,;:()/-_\xc2\xa0"
_COLONS: Final = re.compile(rb":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]{0,4}:")
_IBAN_MASK: Final = re.compile(rb"AA00(?:[A0]{11}|-[A0]{4}-[A0]{4})")
_PLUS: Final = re.compile(r"\+\d(?:[\d ().\-_%]{6}|\d{3,5}\+\d{4})")
_SPACED: Final = re.compile(r"\d%20\d{4}")


def _suspect_texts(texts: Sequence[str]) -> set[int]:
    """Return the indices of texts to search: those with an @, seven digits in a row, or colons close together."""
    lines = _joined(texts)
    digits = lines.translate(_MASK, _BETWEEN)
    return {*_lines_with(lines, b"@"), *_lines_with(digits, b"0000000"), *_lines_matching(lines, _COLONS)}


def _suspect_urls(urls: Sequence[str]) -> set[int]:
    """Return the indices of URLs to search: those with an @, a + before digits, groups of digits, or an IBAN."""
    lines = _joined(urls)
    mask = lines.translate(_MASK)
    found = {*_lines_with(lines, b"@"), *_lines_matching(mask, _IBAN_MASK)}
    found.update(*(_lines_with(mask, groups) for groups in (b"0000-0000-0000-", b"0000-000000-0000")))
    found.update(place for place in _lines_with(lines, b"%") if _is_escaped(urls[place]))
    found.update(place for place in _lines_with(lines, b"+") if _PLUS.search(urls[place]))
    return found


def _is_escaped(url: str) -> bool:
    return "%40" in url or "%2B" in url or "%2b" in url or ("%20" in url and bool(_SPACED.search(url)))


def _joined(values: Sequence[str]) -> bytes:
    joined = "\n".join(values)
    if joined.count("\n") >= len(values):
        joined = "\n".join(value.replace("\n", " ") for value in values)
    return joined.encode("utf-8", "replace")


def _lines_with(lines: bytes, needle: bytes) -> Iterator[int]:
    """Yield the numbers of the lines that contain the needle."""
    number = start = 0
    while (found := lines.find(needle, start)) >= 0:
        number += lines.count(b"\n", start, found)
        yield number
        end = lines.find(b"\n", found)
        if end < 0:
            return
        number, start = number + 1, end + 1


def _lines_matching(lines: bytes, pattern: re.Pattern[bytes]) -> Iterator[int]:
    number = start = 0
    for match in pattern.finditer(lines):
        number += lines.count(b"\n", start, match.start())
        start = match.start()
        yield number


# --- finding ---------------------------------------------------------------------------------------------------------


def _in_text(text: str) -> Iterator[str]:
    """Return an iterator of kinds, one for each finding in a text."""
    return _findings(text, _TEXT_RULES)


def _in_url(url: str) -> Iterator[str]:
    """Do the same for path, query and fragment of a URL: an authority `user@host` is no e-mail address."""
    authority = _AUTHORITY.match(url)
    text = unquote(url[authority.end() :] if authority else url)
    return _findings(text, _URL_RULES)


_AUTHORITY: Final = re.compile(r"[^:/?#]*:?//[^/?#]*")


class _PersonalRule(NamedTuple):
    """A kind of finding, a character that it must contain, its pattern, and a check of matches."""

    kind: str
    mark: str
    pattern: re.Pattern[str]
    is_valid: Callable[[re.Match[str]], bool]


def _findings(text: str, rules: Iterable[_PersonalRule]) -> Iterator[str]:
    for rule in rules:
        if rule.mark in text:
            spans = [
                match.span() for match in islice(rule.pattern.finditer(text), _MAX_CANDIDATES) if rule.is_valid(match)
            ]
            # Blanked, so that no character counts for two findings.
            for start, end in spans:
                text = f"{text[:start]}{' ' * (end - start)}{text[end:]}"
                yield rule.kind


_EMAIL: Final = re.compile(
    r"(?<![\w.%+-])[\w.%+-]++@((?:[^\W_](?:[\w-]{0,62}[^\W_])?\.){1,8}[A-Za-z]{2,24})(?![A-Za-z0-9@])",
)
# `logo@2x.zip`, `package@v1.app`: a density or a version.
_NO_DOMAIN: Final = re.compile(r"v?\d+x?")


def _is_email(match: re.Match[str]) -> bool:
    domain = match[1].lower()
    # Strip what follows the address in a file name: `jane@example.com.jpg`.
    while "." in domain:
        found = hostnames.suffixes(private=False)(domain)
        if found.suffix:
            return bool(found.domain) and not _NO_DOMAIN.fullmatch(found.domain)
        domain = domain.rpartition(".")[0]
    return False


_IBAN: Final = re.compile(
    r"(?<![\w-])[A-Za-z]{2}\d{2}"
    r"(?:[A-Za-z0-9]{11,30}(?![\w-])|(?: [A-Za-z0-9]{4}){2,7}(?: [A-Za-z0-9]{1,3})?(?!\w))",
)
_IBAN_IN_URL: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}"
    r"(?:[A-Z0-9]{11,30}|(?:[ +_-][A-Z0-9]{4}){2,7}(?:[ +_-][A-Z0-9]{1,3})?)(?![A-Za-z0-9])",
)


def _is_iban(match: re.Match[str]) -> bool:
    from stdnum import iban  # noqa: PLC0415 - reads the structures of all countries

    groups = re.split(r"[ +_-]", match[0])
    # Words after a grouped account number look like further groups.
    return any(iban.is_valid("".join(groups[:end])) for end in range(len(groups), 0, -1))


def _groups(between: str) -> str:
    """Return the pattern of digits in the groups printed on cards: 4-4-4-4, 4-6-5 and 4-6-4."""
    return (
        rf"\d{{4}}(?P<a>{between})\d{{4}}(?P=a)\d{{4}}(?P=a)\d{{4}}(?:(?P=a)\d{{3}})?"
        rf"|\d{{4}}(?P<b>{between})\d{{6}}(?P=b)\d{{4,5}}"
    )


# Not inside a longer number or a word, and not a file name.
_CARD: Final = re.compile(rf"(?<![\w.,+-])(?:\d{{12,19}}|{_groups('[ -]')})(?![\w-])(?![.,]\w)")
_CARD_IN_URL: Final = re.compile(
    rf"(?<![A-Za-z0-9])(?<!\d[-_.+ ])(?:{_groups('[-_.+ ]')})(?![A-Za-z0-9])(?![-_.+ ]\d)",
)
_CARD_WORDS: Final = re.compile(r"(?i)card|carte|karte|tarjeta|cart[aã]o|carta|\bcc|visa|maestro|diners|карт")
# Mastercard, Visa, American Express, Discover, JCB, UnionPay.
_SCHEMES: Final = re.compile(
    r"(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|4\d{15}(?:\d{3})?|3[47]\d{13}"
    r"|(?:6011|64[4-9]\d|65\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|62\d{14,17}",
)
# As long as article numbers (EAN) and times in milliseconds, or obsolete: old Visa, Diners, old JCB, Maestro.
_RARE_SCHEMES: Final = re.compile(
    r"4\d{12}|3(?:0[0-5]|[68]\d|9\d)\d{11}|(?:2131|1800)\d{11}|35\d{14}|(?:50|5[6-9]|6\d)\d{10,17}",
)


def _is_card(match: re.Match[str]) -> bool:
    from stdnum import luhn  # noqa: PLC0415 - only where digits are found

    number = re.sub(r"\D", "", match[0])
    if not luhn.is_valid(number):
        return False
    return bool(
        _SCHEMES.fullmatch(number) or (_RARE_SCHEMES.fullmatch(number) and _CARD_WORDS.search(match.string)),
    )


_IPV4: Final = re.compile(r"(?<![\w.-])(?=(?:\.?\d){8})\d{1,3}(?:\.\d{1,3}){3}(?![\w-])(?!\.\w)")
_IPV6: Final = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{1,4}:(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]{4,34}(?![\w:])(?!\.\w)"
)


def _is_public_ip(match: re.Match[str]) -> bool:
    try:
        return ip_address(match[0]).is_global
    except ValueError:
        return False


_INTERNATIONAL: Final = re.compile(r"(?<![\w+])\+ ?\(?\d[\d ().\-/]{6,22}\d")
_INTERNATIONAL_IN_URL: Final = re.compile(r"(?<![A-Za-z0-9])\+\d[\d ().\-_]{6,22}\d(?![A-Za-z0-9])")
_AMERICAN: Final = re.compile(r"(?<![\w.+-])(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-.]\d{4}(?:x\d+)?(?![\w-])")
_DATE: Final = r"[12]\d{3}[-./][01]?\d[-./][0-3]?\d\b|\d\d?[-./]\d\d?[-./](?:19|20)\d\d\b"
_NATIONAL: Final = re.compile(rf"(?<![\w+.-])(?!{_DATE})\(?\d[\d ().\-/]{{6,18}}\d(?!\w)")
_PHONE_WORDS: Final = re.compile(
    r"(?i)(?<![a-z])(?:tel(?:e(?:phone|fone?|fono|foon)|éfono|éphone|efon)?|phones?|mobile?|móvil|cell?(?:ular)?|handy|fax"
    r"|call|whatsapp|sms|hotline|тел(?:ефон)?|电话|電話|전화)(?![a-z])\D{0,16}$",
)
# Countries tried for numbers without country code, by pairs in LAION-5B; more for a leading 0, which sizes lack.
_REGIONS: Final = ("US", "GB", "DE", "FR", "ES", "IT", "BR", "RU", "JP", "NL", "PL", "IN", "AU")
_REGIONS_OF_ZERO: Final = (
    "GB",
    "DE",
    "FR",
    "IT",
    "JP",
    "NL",
    "IN",
    "AU",
    "AT",
    "BE",
    "CH",
    "SE",
    "TR",
    "UA",
    "CN",
    "KR",
    "ZA",
)


def _is_international(match: re.Match[str]) -> bool:
    return _is_number(match[0].replace("_", " "), None)


def _is_american(match: re.Match[str]) -> bool:
    return _is_number(match[0], "US")


def _is_national(match: re.Match[str]) -> bool:
    if not _PHONE_WORDS.search(match.string[max(0, match.start() - 32) : match.start()]):
        return False
    regions = _REGIONS_OF_ZERO if match[0].lstrip("(").startswith("0") else _REGIONS
    return any(_is_number(match[0], region) for region in regions)


def _is_number(text: str, region: str | None) -> bool:
    import phonenumbers  # noqa: PLC0415 - reads the plans of all countries

    # The matcher rejects dates and times, and tries parts of a longer run of digits.
    return phonenumbers.PhoneNumberMatcher(text, region, max_tries=10).has_next()


_TEXT_RULES: Final = (
    _PersonalRule("emails", "@", _EMAIL, _is_email),
    _PersonalRule("accounts", "", _IBAN, _is_iban),
    _PersonalRule("cards", "", _CARD, _is_card),
    _PersonalRule("ips", ".", _IPV4, _is_public_ip),
    _PersonalRule("ips", ":", _IPV6, _is_public_ip),
    _PersonalRule("phones", "+", _INTERNATIONAL, _is_international),
    _PersonalRule("phones", "", _AMERICAN, _is_american),
    _PersonalRule("phones", "", _NATIONAL, _is_national),
)
_URL_RULES: Final = (
    _PersonalRule("emails", "@", _EMAIL, _is_email),
    _PersonalRule("accounts", "", _IBAN_IN_URL, _is_iban),
    _PersonalRule("cards", "", _CARD_IN_URL, _is_card),
    _PersonalRule("phones", "+", _INTERNATIONAL_IN_URL, _is_international),
)
