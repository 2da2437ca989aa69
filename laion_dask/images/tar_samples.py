"""Find which picture and texts of a foreign tar belong to one sample, and which members cannot be used.

As in webdataset, a sample is the members whose names are equal up to the first dot of their base name, in one folder;
here they need not be adjacent. Every picture of a tar is a sample, or a row with the reason why it is not one.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from laion_dask.images.prepare import EXTENSIONS
from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import SPLITS

_USUAL: Final = ("jpg", "jpeg", "png", "webp")
PICTURES: Final = tuple(dict.fromkeys((*_USUAL, *EXTENSIONS.values(), "tiff")))
"""Extensions that the download stores, also as received; beside a usual one, another one is not the picture."""
_TEXTS: Final = ("txt", "json")
_SHA256: Final = re.compile("[0-9a-fA-F]{64}")
_MAX_TEXT_BYTES: Final = 1_000_000
_BLOCK: Final = 512
# A tar is padded with zeros to a multiple of 10 KiB, or of its writer's blocking factor.
_MAX_PADDING: Final = 2**20
# Errors that a malformed header can cause.
_BROKEN: Final = (tarfile.TarError, ValueError, EOFError, OverflowError)


class MemberPlace(NamedTuple):
    """Offset and size of a member's bytes in the tar."""

    offset: int
    size: int


@dataclass(slots=True)
class TarScan:
    """The samples of a tar, and what is wrong with it."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """A row for each sample with a picture, in the order of their pictures, then those of what is not a sample."""
    chosen: list[tuple[str, MemberPlace]] = field(default_factory=list)
    """Key and picture of each sample, in the order of the tar."""
    broken: str = ""
    """Why the tar could not be read to its end; empty where it was."""
    broken_json: int = 0
    """Samples whose JSON cannot be parsed; their other texts are used."""


@dataclass(slots=True)
class _Sample:
    first: int
    pictures: dict[str, MemberPlace] = field(default_factory=dict)
    """By extension."""
    texts: dict[str, bytes | None] = field(default_factory=dict)
    """By extension; None for a text that is too long."""
    doubled: bool = False


def scan(tar: Path, *, with_texts: bool = True) -> TarScan:
    """Read the headers of a tar, and with `with_texts` its texts. Raises OSError where the disk fails."""
    result = TarScan()
    samples: dict[str, _Sample] = {}
    odd: list[str] = []
    size = tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as members:
            for member in members:
                if member.offset_data + member.size > size and member.isreg():
                    result.broken = f"the file ends inside of {_printable(member.name)}"
                    break
                _take(members, member, samples, odd, with_texts=with_texts)
            else:
                result.broken = _end(tar, members.offset)
    except _BROKEN as error:
        result.broken = str(error) or type(error).__name__
    for key, sample in sorted(samples.items(), key=lambda item: item[1].first):
        _add(result, tar.name, key, sample)
    # Pictures are read in the order of the tar, so rows have the same order.
    result.chosen.sort(key=lambda chosen: chosen[1].offset)
    usable = {row["key"]: row for row in result.rows if row["reason"] == KEEP}
    others = [row for row in result.rows if row["reason"] != KEEP]
    result.rows = [*(usable[key] for key, _ in result.chosen), *others]
    result.rows += [_none(tar.name, name, "odd_member") for name in odd]
    if result.broken:
        result.rows.append(_none(tar.name, "", "broken_tar"))
    return result


def _take(
    members: tarfile.TarFile,
    member: tarfile.TarInfo,
    samples: dict[str, _Sample],
    odd: list[str],
    *,
    with_texts: bool,
) -> None:
    """Add a member to its sample or to the odd members, or ignore it."""
    folder, slash, name = member.name.rpartition("/")
    stem, _, ending = name.partition(".")
    ending = ending.lower()
    last = ending.rpartition(".")[2]
    if member.isdir() or not stem or last not in (*PICTURES, *_TEXTS):
        return
    if not member.isreg() or member.issparse() or _leads_out(member.name) or _printable(member.name) != member.name:
        if last in PICTURES:
            odd.append(_printable(member.name))
        return
    sample = samples.setdefault(f"{folder}{slash}{stem}", _Sample(member.offset))
    sample.doubled |= ending in sample.pictures or ending in sample.texts
    if last in PICTURES:
        sample.pictures.setdefault(ending, MemberPlace(member.offset_data, member.size))
    elif not with_texts:
        sample.texts[ending] = b""
    else:
        stream = members.extractfile(member) if member.size <= _MAX_TEXT_BYTES else None
        sample.texts[ending] = stream.read() if stream is not None else None


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in name.split("/")


def _printable(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _end(tar: Path, offset: int) -> str:
    """Return what is wrong with the end of a tar, behind its last member; empty where it ends correctly."""
    with tar.open("rb") as stream:
        stream.seek(offset)
        block, rest = stream.read(_BLOCK), stream.read(_MAX_PADDING)
    if block == bytes(_BLOCK):
        return "something follows its end: several tars in one file?" if any(rest) else ""
    return f"no member begins at byte {offset:,}, and no end" if block else "the tar has no end"


def _add(found: TarScan, tar: str, key: str, sample: _Sample) -> None:
    """Add a sample's row and the place of its picture; a sample without a picture is ignored."""
    if not sample.pictures:
        return
    ending, reason = _picture(sample)
    fields, problem = _texts(sample, ending)
    found.broken_json += problem == "broken_json"
    caption = fields.pop("caption")
    if sample.doubled:
        reason = "doubled_name"
    elif reason == KEEP and caption is None:
        reason = "bad_caption"
    if reason == KEEP:
        found.chosen.append((key, sample.pictures[ending]))
    found.rows.append(_row(tar, key, reason, caption or "", fields))


def _picture(sample: _Sample) -> tuple[str, str]:
    """Return the extension of the sample's picture, and `keep`, or the reason why it is not certain.

    Beside `jpg` a longer extension such as `seg.png` is not the picture. Alone, `b.jpg` is the picture unless a text
    has another prefix: `b.txt` is then its caption, since by webdataset's rule both belong to one sample.
    """
    plain = [ending for kinds in (_USUAL, PICTURES) for ending in sample.pictures if ending in kinds]
    if plain:
        return plain[0], KEEP
    ending = next(iter(sample.pictures))
    texts = {f"{ending.rpartition('.')[0]}.{text}" for text in _TEXTS}
    is_clear = len(sample.pictures) == 1 and texts.issuperset(sample.texts)
    return ending, KEEP if is_clear else "odd_name"


def _texts(sample: _Sample, ending: str) -> tuple[dict[str, Any], str]:
    """Return the fields of a picture's texts, with its caption (None: unreadable), and the problem or an empty text."""
    prefix = ending[: -len(ending.rpartition(".")[2])]
    raw = sample.texts.get(f"{prefix}json", b"")
    problem = ""
    try:
        fields = json.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        fields, problem = {}, "broken_json"
    fields = fields if isinstance(fields, dict) else {}
    if f"{prefix}txt" in sample.texts:
        return fields | {"caption": _decoded(sample.texts[f"{prefix}txt"])}, problem
    caption = fields.get("caption") or fields.get("text") or ""
    if isinstance(caption, bool | list | dict):
        return fields | {"caption": None}, problem
    return fields | {"caption": _printable(str(caption))}, problem


def _decoded(text: bytes | None) -> str | None:
    try:
        return None if text is None else text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _row(tar: str, key: str, reason: str, caption: str, known: dict[str, Any]) -> dict[str, Any]:
    url = known.get("url")
    url = _printable(url) if isinstance(url, str) else ""
    uid = known.get("uid")
    derived = hashlib.md5(f"{caption}{url}".encode()).hexdigest()
    split = known.get("split")
    digest = known.get("sha256")
    sizes = {name: known.get(name) for name in ("original_width", "original_height")}
    return {
        "key": key,
        "uid": _printable(uid) if isinstance(uid, str) and uid else derived,
        "url": url,
        "caption": caption,
        "split": split if split in SPLITS else "nolang",
        "reason": reason,
        "tar": tar,
        "sha256": digest if isinstance(digest, str) and _SHA256.fullmatch(digest) else None,
        **{name: size if type(size) is int and 0 < size < 2**31 else None for name, size in sizes.items()},
    }


def _none(tar: str, name: str, reason: str) -> dict[str, Any]:
    """Return the row of something that is not a sample; its uid comes from the tar and the name."""
    return _row(tar, name, reason, "", {"uid": hashlib.md5(f"{tar} {name}".encode()).hexdigest()})


def bodies(tar: Path, chosen: Iterable[tuple[str, MemberPlace]]) -> Iterator[tuple[str, bytes]]:
    """Yield (key, bytes) of the chosen pictures, in one pass over the tar."""
    with tar.open("rb") as stream:
        for key, place in chosen:
            stream.seek(place.offset)
            yield key, stream.read(place.size)
