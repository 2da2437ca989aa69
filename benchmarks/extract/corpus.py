"""The real WATs of ../shared/data in, a folder of real-shaped WATs of any size out: the pages again and again, varied.

A WAT has three records for every page of the crawl, and so has this: a request, a response with the links of a real
page, a metadata record. JSON is written as the extractor writes it, one gzip member for each record. The same seed
gives the same bytes (with the same zlib); pages are varied each time they come (vary.py), so that no cache profits.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random
import shutil
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.extract import vary

DATA: Final = Path(__file__).parents[3] / "shared" / "data"
FOLDER: Final = "wat_derived"
FIGURES: Final = "figures.json"
MB: Final = 1_000_000

# How many of 1,000 pages come from each source. So chosen that a MB has about the image links and alt texts that a WAT
# of a general crawl has (733,994 and 405,232 in 1.0 to 1.4 GB), and that no source has more than half.
SHARES: Final = {
    "scrapinghub-aeb": 420,
    "postlight-parser": 330,
    "aut__example": 100,
    "dolma__sample-0000": 60,
    "chatnoir-resiliparse__warcfile": 60,
    "jwarc__cc": 10,
    "node-warc__books.toscrape": 6,
    "ukwa__main-page": 6,
    "whirlwind": 5,
    "CC-MAIN-20140820021334-00006-ip-10-180-136-8": 3,
}
# One page of a general crawl by the extractor of 2024: the shape of its three records.
_SHAPES: Final = "whirlwind"
_WARC: Final = "CC-MAIN-20220924151538-20220924181538-{:05d}.warc.gz"
_DATE: Final = "2022-09-24T{:02d}:{:02d}:{:02d}Z"
# Saved pages were wrapped with two or three headers; a server sends about twenty.
_FEW_HEADERS: Final = 5
# Small WATs are cut out of the large ones: with eight files, 100 and a few.
PIECES: Final = 13
_LEVEL: Final = 6  # of Java's GZIPOutputStream, which writes the real ones

Json = dict[str, Any]


class CorpusError(Exception):
    """The real WATs are not there; the message has the remedy."""


class Sources(NamedTuple):
    """What the pages are made of."""

    shapes: dict[str, Json]
    """request, response, metadata: a real record of each kind."""
    pages: dict[str, list[Json]]
    """By source: `HTTP-Response-Metadata` of every HTML page, with its address under `address`."""
    headers: list[Json]
    """Response headers of real servers, for pages that were saved without."""


@dataclass(frozen=True)
class Wat:
    """A WAT of the corpus, and what is in it."""

    name: str
    stored: int
    raw: int
    records: int
    pages: int
    links: int
    images: int
    alts: int
    """Image links with an alt text that is not empty."""
    cuts: tuple[int, ...]
    """Offsets in the stored file of every thirteenth of its pages; the first is behind the warcinfo record."""


@dataclass(frozen=True)
class Corpus:
    """A folder of WATs."""

    folder: Path
    wats: tuple[Wat, ...]

    @property
    def files(self) -> list[Path]:
        """Paths in the order of their numbers."""
        return [self.folder / wat.name for wat in self.wats]

    def total(self, figure: str) -> int:
        """Add up a figure of all WATs."""
        return sum(getattr(wat, figure) for wat in self.wats)

    def small(self, out: Path, number: int) -> list[Path]:
        """Write WATs cut out of the large ones, a thirteenth each; as many as there are, `number` at most."""
        out.mkdir(parents=True)
        paths: list[Path] = []
        for path, wat in zip(self.files, self.wats, strict=True):
            content = path.read_bytes()
            for begin, end in zip(wat.cuts, wat.cuts[1:], strict=False):
                if len(paths) < number:
                    paths.append(out / f"{len(paths):05d}.warc.wat.gz")
                    paths[-1].write_bytes(content[: wat.cuts[0]] + content[begin:end])
        return paths

    def joined(self, path: Path) -> Path:
        """Write all WATs as one: gzip members of one file behind those of the other."""
        with path.open("wb") as out:
            for part in self.files:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, out)
        return path


def cached(cache: Path, *, gb: float, files: int, seed: int = 1, processes: int = 1, data: Path = DATA) -> Corpus:
    """Return the corpus of this size out of the cache; make it where it or its maker is new, and drop older ones.

    Raises `CorpusError` where the real WATs are absent.
    """
    real = sources_folder(data)
    makers = b"".join(Path(module).read_bytes() for module in (__file__, vary.__file__))
    content = b"".join(path.read_bytes() for path in sorted(real.glob("*.wat.gz")))
    version = hashlib.sha256(makers + content).hexdigest()[:12]
    folder = cache / version / f"{gb:g}gb-{files}-seed{seed}"
    for old in cache.glob("*"):
        if old.name != version:
            shutil.rmtree(old)
    if not (folder / FIGURES).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        make(real, folder, gb=gb, files=files, seed=seed, processes=processes)
    figures = json.loads((folder / FIGURES).read_bytes())
    return Corpus(folder, tuple(Wat(**{**one, "cuts": tuple(one["cuts"])}) for one in figures))


def sources_folder(data: Path) -> Path:
    """Return the folder of real WATs below `data`; raise `CorpusError` where it is not there."""
    real = data / FOLDER
    if not real.is_dir():
        message = f"no folder {real}: the corpus is made of the real WATs in shared/data beside the repository"
        raise CorpusError(message)
    return real


def make(real: Path, out: Path, *, gb: float, files: int, seed: int, processes: int) -> None:
    """Write `files` WATs of `gb` gigabytes of raw bytes in all, and their figures last."""
    out.mkdir(parents=True)
    raw = round(gb * 1000 * MB / files)
    with ProcessPoolExecutor(min(processes, files), mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(write_wat, real, out, number, raw, seed) for number in range(files)]
        figures = [asdict(future.result()) for future in waiting]
    (out / FIGURES).write_text(json.dumps(figures, indent=1))


def write_wat(real: Path, out: Path, number: int, raw: int, seed: int) -> Wat:
    """Write the WAT of this number with at least `raw` bytes unpacked; number and seed alone decide what is in it."""
    rng = random.Random(f"{seed}/{number}")
    sources = read_sources(real)
    warc = _WARC.format(number)
    name = warc.replace(".warc.gz", ".warc.wat.gz")
    count = dict.fromkeys(("records", "pages", "links", "images", "alts"), 0)
    cuts: list[int] = []
    written = 0
    with (out / name).open("wb") as stream:
        first = warcinfo(name)
        stream.write(_member(first))
        done = len(first)
        for metadata in _drawn(sources, rng):
            if written >= len(cuts) * raw / PIECES:
                cuts.append(stream.tell())
            if done >= raw:
                break
            for record in records_of_page(metadata, sources, warc, stream.tell(), rng):
                stream.write(_member(record))
                written += len(record)
                done += len(record)
            links = metadata["HTML-Metadata"].get("Links", ())
            images = [link for link in links if link.get("path") == "IMG@/src"]
            count["pages"] += 1
            count["links"] += len(links)
            count["images"] += len(images)
            count["alts"] += sum(bool(link.get("alt")) for link in images)
        stored = stream.tell()
    count["records"] = 1 + 3 * count["pages"]
    return Wat(name, stored, done, **count, cuts=tuple(cuts))


def read_sources(real: Path) -> Sources:
    """Read every HTML page of the real WATs, and the records that give the shape."""
    pages: dict[str, list[Json]] = {}
    headers = []
    for source in SHARES:
        found = pages.setdefault(source, [])
        for record in read_json(real / f"{source}.warc.wat.gz"):
            envelope = record["Envelope"]
            response = envelope["Payload-Metadata"].get("HTTP-Response-Metadata", {})
            # Newer wget writes the address in angle brackets; in Common Crawl's WATs it has none.
            address = envelope["WARC-Header-Metadata"].get("WARC-Target-URI", "").strip("<>")
            if "HTML-Metadata" in response and address.startswith(("http://", "https://")):
                found.append(response | {"address": address})
                sent = response.get("Headers", {})
                # A page keeps the opt-outs of its own server and gets none from another.
                if len(sent) > _FEW_HEADERS and "x-robots-tag" not in {key.lower() for key in sent}:
                    headers.append(sent)
    shapes: dict[str, Json] = {}
    for record in read_json(real / f"{_SHAPES}.warc.wat.gz"):
        shapes.setdefault(record["Envelope"]["WARC-Header-Metadata"]["WARC-Type"], record)
    return Sources(shapes, pages, headers)


def read_json(path: Path) -> Iterator[Json]:
    """Yield the JSON of every metadata record of a WAT."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType  # noqa: PLC0415 - tests of other functions need none

    with path.open("rb") as stream:
        for record in ArchiveIterator(stream, parse_http=False, record_types=WarcRecordType.metadata):
            yield json.loads(record.reader.read())


def written(record: Json) -> bytes:
    """Return JSON as the extractor (org.json) writes it: no white space, UTF-8, the slash of `</` escaped."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/").encode()


def _drawn(sources: Sources, rng: random.Random) -> Iterator[Json]:
    """Yield varied pages without end: a source by its share, its pages in a random order, each before any again."""
    decks: dict[str, list[Json]] = {source: [] for source in SHARES}
    while True:
        (source,) = rng.choices(list(SHARES), list(SHARES.values()))
        if not decks[source]:
            decks[source] = rng.sample(sources.pages[source], len(sources.pages[source]))
        page = decks[source].pop()
        addresses = vary.Addresses(rng)
        yield page | {
            "address": addresses(page["address"]),
            "HTML-Metadata": vary.page(page["HTML-Metadata"], rng, addresses),
        }


def records_of_page(page: Json, sources: Sources, warc: str, offset: int, rng: random.Random) -> list[bytes]:
    """Return request, response and metadata record of a page as bytes of a WARC."""
    address = page["address"]
    host, _, path = address.partition("//")[2].partition("/")
    request, response, metadata = (copy.deepcopy(sources.shapes[kind]) for kind in ("request", "response", "metadata"))
    http = request["Envelope"]["Payload-Metadata"]["HTTP-Request-Metadata"]
    http["Request-Message"]["Path"] = f"/{path}"
    http["Headers"]["Host"] = host
    headers = page.get("Headers", {})
    response["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"] |= {
        "Headers": headers if len(headers) > _FEW_HEADERS else rng.choice(sources.headers) | headers,
        "HTML-Metadata": page["HTML-Metadata"],
    }
    second = rng.randrange(3 * 3600)
    date = _DATE.format(15 + second // 3600, second // 60 % 60, second % 60)
    ids = [_urn(rng) for _ in range(3)]
    records = []
    for place, record in enumerate((request, response, metadata)):
        record["Container"] |= {"Filename": warc, "Offset": str(4 * offset + 500 * place)}
        header = record["Envelope"]["WARC-Header-Metadata"]
        header |= {"WARC-Target-URI": address, "WARC-Date": date, "WARC-Record-ID": ids[place]}
        for key, value in (("WARC-Concurrent-To", ids[0]), ("WARC-Payload-Digest", _digest(rng))):
            if key in header:
                header[key] = value
        header["WARC-Block-Digest"] = record["Envelope"]["Payload-Metadata"]["Block-Digest"] = _digest(rng)
        records.append(_metadata(address, date, _urn(rng), ids[place], written(record)))
    return records


def warcinfo(name: str) -> bytes:
    """Return the first record of a WAT."""
    fields = b"Software-Info: ia-web-commons\r\nformat: WARC File Format 1.0\r\n\r\n"
    head = (
        f"WARC/1.0\r\nWARC-Type: warcinfo\r\nWARC-Date: {_DATE.format(18, 0, 0)}\r\nWARC-Filename: {name}\r\n"
        f"Content-Type: application/warc-fields\r\nContent-Length: {len(fields)}\r\n\r\n"
    )
    return head.encode() + fields + b"\r\n\r\n"


def _metadata(address: str, date: str, urn: str, refers_to: str, body: bytes) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: metadata\r\nWARC-Target-URI: {address}\r\nWARC-Date: {date}\r\n"
        f"WARC-Record-ID: {urn}\r\nWARC-Refers-To: {refers_to}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def _member(record: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, wbits=31)
    return packer.compress(record) + packer.flush()


def _urn(rng: random.Random) -> str:
    return f"<urn:uuid:{uuid.UUID(int=rng.getrandbits(128), version=4)}>"


def _digest(rng: random.Random) -> str:
    return f"sha1:{base64.b32encode(rng.randbytes(20)).decode()}"


def describe(corpus: Corpus) -> Sequence[str]:
    """Return the figures of a corpus beside those of a real WAT, in lines."""
    total = {name: corpus.total(name) for name in ("raw", "stored", "records", "pages", "links", "images", "alts")}
    raw_mb = total["raw"] / MB
    size = f"{len(corpus.wats)} WATs, {raw_mb:,.0f} MB raw, {total['stored'] / MB:,.0f} MB stored"
    pages = f"{total['pages']:,} pages of {total['raw'] / total['pages'] / 1000:.1f} kB, {total['links']:,} links"
    images = f"image links {total['images']:,}, {total['images'] / raw_mb:.0f} in a MB (real: 524 to 734)"
    alts = f"with alt text {total['alts']:,}, {total['alts'] / raw_mb:.0f} in a MB (real: 289 to 405)"
    return (f"{size}, {total['records']:,} records, {pages}", f"{images}, {alts}")
