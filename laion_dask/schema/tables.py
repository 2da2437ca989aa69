"""The vocabulary: every table and array once, with the name, type, unit and meaning of each column.

Writers check against it (`Table.check`), the data dictionary is printed from it (`laion-dask columns`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from laion_dask.schema.columns import Array, Column, Table
from laion_dask.schema.new_texts import CAPTIONS, TRANSLATIONS

_PAIR = (
    Column("uid", pa.string(), "identity of the pair: md5 of text + url, 32 hex digits (cc2dataset, DataComp)"),
    Column("url", pa.string(), "absolute image address, resolved against base and page, WHATWG-normalised"),
    Column("text", pa.string(), "alt text after cleaning"),
    Column("host", pa.string(), "host of the image address, lower case, punycode"),
    Column("language", pa.string(), "ISO 639-1 code by fastText lid.176; empty where its confidence is too low"),
    Column("language_confidence", pa.float32(), "probability of the most likely language, rounded to 3 digits", "0..1"),
    Column("split", pa.string(), "en, multi or nolang"),
    Column("license", pa.string(), "id of the licence that the page links to, by SPDX (CC-BY-SA-4.0); ? where none"),
)
_PERSONAL = (
    Column("emails", pa.int16(), "e-mail addresses in text and url", "count"),
    Column("phones", pa.int16(), "phone numbers in text and url that libphonenumber calls valid", "count"),
    Column("cards", pa.int16(), "payment card numbers in text and url, by prefix, length and check digit", "count"),
    Column("accounts", pa.int16(), "bank account numbers (IBAN) in text and url, by check digits", "count"),
    Column("ips", pa.int16(), "public IP addresses in the text", "count"),
)
_PROVENANCE = (
    Column("crawl", pa.string(), "crawl id, CC-MAIN-… or demo; the first of crawl.crawls that has the pair"),
    Column("wat", pa.string(), "path of the WAT inside the crawl"),
    Column("wat_order", pa.int32(), "number of the crawl x 1,000,000 + place of the WAT in its list"),
    Column("record_offset", pa.int64(), "offset of the record in the WAT as stored", "bytes"),
    Column("link_index", pa.int32(), "place of the link among the image links of its page (extract.link_kinds)"),
    Column("page_url", pa.string(), "address of the page"),
    Column("page_date", pa.string(), "when the page was fetched, from WARC-Date", "ISO 8601, UTC"),
    Column("page_signals", pa.string(), "page-level opt-outs found, `;` between them; empty where none"),
)

WATS: Final = Table(
    "wats",
    "crawl",
    "one WAT to read",
    (
        Column(
            "order", pa.int32(), "number of the crawl x 1,000,000 + place in its list: of equal pairs, the first wins"
        ),
        Column("crawl", pa.string(), "crawl id, or demo, or files"),
        Column("wat", pa.string(), "path inside the crawl: the WAT's name in provenance"),
        Column("location", pa.string(), "where it is read: local path or URL"),
        Column("bytes", pa.int64(), "size of a local or listed WAT; -1 where it is not known", "bytes"),
    ),
)

OBJECTS: Final = Table(
    "objects",
    "crawl",
    "one WAT in a bucket as the stage crawl listed it: a WAT that has changed since is not read; only with such WATs",
    (
        Column("location", pa.string(), "its address"),
        Column("bytes", pa.int64(), "size as listed", "bytes"),
        Column("etag", pa.string(), "ETag as listed; empty where the server has none"),
    ),
)

PAIRS: Final = Table("pairs", "extract", "one image link with alt text, as found", (*_PAIR, *_PERSONAL, *_PROVENANCE))

READS: Final = Table(
    "reads",
    "extract",
    "one WAT and what reading it gave: the provenance of the version",
    (
        Column("order", pa.int32(), "number of the crawl x 1,000,000 + place in its list"),
        Column("crawl", pa.string(), "crawl id, or demo, or files"),
        Column("wat", pa.string(), "path inside the crawl"),
        Column("bytes", pa.int64(), "size as stored", "bytes"),
        Column("etag", pa.string(), "ETag of the server; empty for a local WAT"),
        Column("sha256", pa.string(), "sha256 of the bytes as stored; empty where they were not all read", "hex"),
        Column("records", pa.int64(), "WARC records seen", "count"),
        Column("pages", pa.int64(), "HTML pages among them", "count"),
        Column("links", pa.int64(), "image links seen", "count"),
        Column("pairs", pa.int64(), "pairs kept", "count"),
        Column("losses", pa.int64(), "records lost to a defect", "count"),
        Column("mended", pa.int64(), "records read in spite of a defect", "count"),
        Column("reader", pa.string(), "fastwarc or warcio: the reader that read the file's end"),
        Column("error", pa.string(), "why the WAT could not be read to its end; empty where it was"),
    ),
)

TIMES: Final = Table(
    "times",
    "extract",
    "one WAT and how long it took; of this machine and run, so it lies beside the version, not in it",
    (
        Column("wat", pa.string(), "path inside the crawl"),
        Column("seconds", pa.float64(), "time of the task", "s"),
        Column("bytes", pa.int64(), "size as stored", "bytes"),
        Column("requests", pa.int64(), "requests to the server, of a remote WAT", "count"),
        Column("pairs", pa.int64(), "pairs kept", "count"),
    ),
)

LOSSES: Final = Table(
    "losses",
    "extract",
    "one defect of a WAT: a record or link that was lost, or read in spite of it; at most 10,000 of a WAT are listed",
    (
        Column("wat", pa.string(), "path inside the crawl"),
        Column("offset", pa.int64(), "offset of the record in the WAT as stored", "bytes"),
        Column("reason", pa.string(), "reason out of the closed list of wat.RECORD_REASONS or wat.MENDED, or no_url"),
        Column("detail", pa.string(), "what was found there, at most 200 characters"),
    ),
)

WORK: Final = Table(
    "work",
    "catalog",
    "one pair to download",
    (
        Column("place", pa.int32(), "place in the shard, from 0; a pair that is taken out leaves a gap"),
        *_PAIR,
        *_PERSONAL,
        Column("seen", pa.int32(), "how often the pair was found in the crawl that has it first", "times"),
        *_PROVENANCE,
    ),
)

REMOVED: Final = Table(
    "removed",
    "catalog",
    "one pair that a removal or a list of known addresses takes out before download",
    (
        Column("uid", pa.string(), "identity of the pair"),
        Column("split", pa.string(), "en, multi or nolang"),
        Column("reason", pa.string(), "removed_url, removed_domain, removed_uid or listed_url"),
    ),
)

IMAGES: Final = Table(
    "images",
    "download",
    "one attempt to download a pair, successful or not; its place in the shard is its slot in the shard's score arrays",
    (
        Column("key", pa.string(), "shard number and row, as in the tar: position, not content"),
        Column("uid", pa.string(), "identity of the pair"),
        Column("url", pa.string(), "address that was asked for"),
        Column("caption", pa.string(), "text of the pair (img2dataset's name for it)"),
        Column("status", pa.string(), "success, failed_to_download or failed_to_resize (img2dataset)"),
        Column("error_message", pa.string(), "what went wrong, null on success", ""),
        Column("reason", pa.string(), "keep, or the reason out of the closed list"),
        Column(
            "listed_by",
            pa.list_(pa.string()),
            "lists of known content that have the address, the bytes or the picture; null where none has",
        ),
        Column(
            "compared",
            pa.string(),
            "where reason is changed_bytes: same_picture or changed, beside the version of download.verify",
        ),
        Column("http_status", pa.int32(), "status of the last response; 0 where there was none"),
        Column(
            "server_date", pa.string(), "Date header of the last response; null where none is valid", "ISO 8601, UTC"
        ),
        Column(
            "fetched",
            pa.string(),
            "day of the last request, for this version or an earlier one whose row it is; of a recorded answer, that "
            "of the recording; null where none was sent",
            "ISO 8601, UTC",
        ),
        Column("final_url", pa.string(), "address after redirects"),
        Column("content_type", pa.string(), "Content-Type of the response"),
        Column("rights", pa.string(), "allowed, refused or unknown"),
        Column("rights_signal", pa.string(), "the signal that decided (docs/rights.md); empty where none spoke"),
        Column("rights_evidence", pa.string(), "its value as received, at most 1,000 characters"),
        Column("rights_source", pa.string(), "where it stood: address of a file, name of a header, or file"),
        Column("rights_time", pa.string(), "Date of the response that carried it; null where there is none", "UTC"),
        Column("format", pa.string(), "JPEG, PNG, WEBP, …: found in the bytes, not in the name"),
        Column("animated", pa.bool_(), "the original has more frames (GIF, PNG, WEBP, AVIF): the first is stored"),
        Column("bytes", pa.int64(), "size of the body as received", "bytes"),
        Column("md5", pa.string(), "md5 of the original bytes, hex"),
        Column("sha1", pa.string(), "sha1 of the original bytes, hex; null where download.hashes has no sha1"),
        Column("sha256", pa.string(), "sha256 of the original bytes, hex"),
        Column("pdq", pa.string(), "perceptual hash PDQ, upright, 64 hex digits; a match: 31 bits apart or fewer"),
        Column("pdq_quality", pa.int32(), "quality of the PDQ; below 50 it is too vague to match", "0..100"),
        Column("original_width", pa.int32(), "width of the original, upright", "px"),
        Column("original_height", pa.int32(), "height of the original, upright", "px"),
        Column("width", pa.int32(), "width as stored in the tar", "px"),
        Column("height", pa.int32(), "height as stored in the tar", "px"),
        *_PAIR[3:],
        Column("seen", pa.int32(), "how often the pair was found in the crawl that has it first", "times"),
        *_PROVENANCE,
    ),
)

TRIES: Final = Table(
    "tries",
    "download",
    "one try for an image and how long it took; of this machine and run, so it lies beside the version, not in it",
    (
        Column("key", pa.string(), "shard number and row"),
        Column("host", pa.string(), "host of the image address"),
        Column("round", pa.int32(), "round of download.rounds, from 1"),
        Column("attempt", pa.int32(), "number of the try in its round, from 1"),
        Column("outcome", pa.string(), "how this try ended: keep, or the reason out of the closed list"),
        Column("http_status", pa.int32(), "status of its last response; 0 where there was none"),
        Column("reason", pa.string(), "how the row's round ended: keep, or the reason out of the closed list"),
        Column("seconds", pa.float64(), "time of the try, with the wait for a turn at the host", "s"),
    ),
)

SCORES: Final = Table(
    "scores",
    "score",
    "one row of the shard's images table, in the same order, NaN where there is no image; and similarity_<model> each",
    (
        Column("uid", pa.string(), "identity of the pair"),
        Column("slot", pa.int64(), "row of the embeddings in embeddings.zarr"),
        Column("reason", pa.string(), "keep, or why there is no score: the reason of the download or of this stage"),
        Column("similarity", pa.float32(), "cosine of image and text embedding, by the model for the split", "-1..1"),
        Column("aesthetic", pa.float32(), "aesthetics score", "about 1..10"),
        Column("punsafe", pa.float32(), "probability that the image is unsafe", "0..1"),
        Column("pwatermark", pa.float32(), "probability that the image is watermarked", "0..1"),
    ),
)


def scores(models: Sequence[str], measured: Sequence[Column] = ()) -> Table:
    """Return SCORES with the own similarity of each model of `score.models`, then what heads and tags add."""
    meaning = "cosine of image and text embedding by the model {}; NaN where it does not read the pair's split"
    own = tuple(Column(f"similarity_{name}", pa.float32(), meaning.format(name), "-1..1") for name in models)
    return replace(SCORES, columns=(*SCORES.columns, *own, *measured))


VERDICTS: Final = Table(
    "verdicts",
    "filter",
    "one pair of the catalog and its fate",
    (
        Column("uid", pa.string(), "identity of the pair"),
        Column("shard", pa.int32(), "shard of the attempt; -1 where it was removed before download"),
        Column("split", pa.string(), "en, multi or nolang"),
        Column("reason", pa.string(), "keep, or the reason out of the closed list"),
        Column(
            "rules",
            pa.uint64(),
            "every rule of filter that would drop the pair, a bit each: verdict.RULE_BITS, those with a name from bit"
            " 40 on, as `rules` of metrics/filter.json has them; 0 also where there is no image",
        ),
        Column("stays", pa.string(), "of a duplicate, the uid of the kept pair that stays instead; else null"),
    ),
)

RELEASE: Final = Table(
    "release",
    "release",
    "one kept pair; names and types of LAION's joined tables, WIDTH and HEIGHT not swapped",
    (
        Column("URL", pa.string(), "image address"),
        Column("TEXT", pa.string(), "alt text"),
        Column("WIDTH", pa.int32(), "width of the original", "px"),
        Column("HEIGHT", pa.int32(), "height of the original", "px"),
        Column("LANGUAGE", pa.string(), "ISO 639-1 code; empty in nolang"),
        Column("LICENSE", pa.string(), "id of the licence linked on the page (CC-BY-SA-4.0), else ?"),
        Column("similarity", pa.float64(), "cosine of image and text embedding", "-1..1"),
        Column("hash", pa.int64(), "first half of mmh3.hash64(URL + TEXT), signed, seed 0 (LAION's joined tables)"),
        Column("punsafe", pa.float32(), "probability that the image is unsafe", "0..1"),
        Column("pwatermark", pa.float32(), "probability that the image is watermarked", "0..1"),
        Column("aesthetic", pa.float32(), "aesthetics score", "about 1..10"),
        Column("uid", pa.string(), "identity of the pair: md5(TEXT + URL)"),
        Column("key", pa.string(), "place in the image shards"),
        Column("md5", pa.string(), "md5 of the original bytes"),
        Column("sha256", pa.string(), "sha256 of the original bytes"),
        Column("page_url", pa.string(), "page that showed the image"),
        Column("crawl", pa.string(), "crawl id"),
        Column("wat", pa.string(), "path of the WAT inside the crawl"),
        Column("record_offset", pa.int64(), "offset of the page's record in the WAT", "bytes"),
    ),
)

TOMBSTONES: Final = Table(
    "tombstones",
    "release",
    "one pair that a removal or a list of known content keeps out of this and every later version",
    (
        Column("uid_sha256", pa.string(), "sha256 of the uid, hex: proves membership without naming the pair"),
        Column("reason", pa.string(), "the reason out of the closed list"),
        Column("since", pa.string(), "first version without the pair (release.version)"),
    ),
)

TRUTH: Final = Table(
    "truth",
    "crawl",
    "one image link of the demo crawl and what is true of it",
    (
        Column("page_url", pa.string(), "address of the page"),
        Column("link_index", pa.int32(), "place of the link among the links of its page"),
        Column("wat", pa.string(), "path of the WAT inside the crawl"),
        Column("uid", pa.string(), "identity of the pair; empty where the link is no pair"),
        Column("url", pa.string(), "image address, absolute"),
        Column("text", pa.string(), "alt text as a reader should clean it"),
        Column("language", pa.string(), "language the caption was written in; empty for texts in no language"),
        Column("expected", pa.string(), "keep, or the reason with which this link must end"),
        Column("matching", pa.bool_(), "the caption describes the picture"),
        Column("unsafe", pa.bool_(), "the picture carries the drawn symbol that stands for unsafe content"),
        Column("watermark", pa.bool_(), "the picture carries a watermark"),
        Column("opted_out", pa.string(), "how the image is opted out, empty if it is not"),
        Column("broken", pa.string(), "how the image is broken, empty if it is not"),
        Column("near_duplicate", pa.bool_(), "the picture is a re-encoded or resized copy of another"),
        Column("original", pa.string(), "address of the picture that it is a copy of; empty where it is none"),
        Column("beauty", pa.float32(), "aesthetics the picture was drawn with", "1..10"),
        Column("thing", pa.string(), "object drawn; empty where there is no picture"),
        Column("color", pa.string(), "its color"),
    ),
)

LINKROT: Final = Table(
    "linkrot",
    "report",
    "one pair that an earlier version has a picture of, and what became of it (download.verify)",
    (
        Column("uid", pa.string(), "identity of the pair"),
        Column("url", pa.string(), "address that was asked for"),
        Column("host", pa.string(), "host of the image address"),
        Column("page_date", pa.string(), "when the page was fetched, from WARC-Date", "ISO 8601, UTC"),
        Column("found", pa.string(), "same_bytes, same_picture, changed, newly_refused, gone or unreachable"),
    ),
)

TABLES: Final = (
    WATS,
    OBJECTS,
    TRUTH,
    PAIRS,
    READS,
    TIMES,
    LOSSES,
    WORK,
    REMOVED,
    IMAGES,
    TRIES,
    SCORES,
    VERDICTS,
    TRANSLATIONS,
    CAPTIONS,
    RELEASE,
    TOMBSTONES,
    LINKROT,
)

ARRAYS: Final = (
    Array("image", "float16", ("pair", "feature"), "image embeddings, unit length; NaN where there is no image"),
    Array(
        "text",
        "float16",
        ("pair", "feature"),
        "text embeddings, unit length; NaN also where it does not read the split",
    ),
)
