"""A seed in, the files of a small made-up version out: tables after laion_dask.schema, tars, metrics and truth.

Scores are drawn with noise, so that decisions have errors to count; the verdicts follow from the scores.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made.versions import tables
from PIL import Image, ImageDraw

from laion_dask import schema
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP, NEW_TEXTS, REASON_STAGE, RULE_BITS

ENDS = {
    KEEP: 52, "low_similarity": 12, "unsafe": 4, "watermark": 5, "image_too_small": 3, "duplicate_image": 2,
    "listed_hash": 1, "text_too_short": 4, "no_alt": 5, "page_opt_out": 3, "duplicate_pair": 4, "removed_url": 1,
    "removed_domain": 1, "robots": 3, "x_robots_tag": 2, "tdmrep": 1, "not_found": 5,
    "timeout": 1, "not_an_image": 1, "truncated_image": 1,
}  # fmt: skip
LANGUAGES = ("en", "en", "en", "en", "de", "fr", "es", "ru", "ja", "", "")
COLORS = ("#c8102e", "#1f5fd6", "#1d8a3e", "#e8a317", "#6a2c91")


def write(
    root: Path, *, links: int = 400, shards: int = 2, seed: int = 5, text: str | None = None
) -> tuple[Path, Path]:
    """Write data/ and metrics/ under `root` and return both paths; `text` replaces every caption."""
    rng = np.random.default_rng(seed)
    rows = [_link(rng, number, text) for number in range(links)]
    rows += _copies(rows)
    data, metrics = root / "data", root / "metrics"
    pairs = [row for row in rows if REASON_STAGE.get(row["expected"]) != "extract"]
    work = [row for row in pairs if REASON_STAGE.get(row["expected"]) != "catalog"]
    _write(data / "crawl" / "truth.parquet", schema.TRUTH, rows)
    wat = {"order": 0, "crawl": "demo", "wat": "wat/0.warc.wat.gz", "location": "wat/0", "bytes": 1}
    _write(data / "crawl" / "wats.parquet", schema.WATS, [wat])
    _write(data / "extract" / "pairs" / "00.parquet", schema.PAIRS, pairs)
    gone = [row | {"reason": row["expected"]} for row in pairs if row["expected"].startswith("removed_")]
    _write(data / "catalog" / "removed.parquet", schema.REMOVED, gone)
    _write(
        data / "filter" / "removed.parquet",
        schema.VERDICTS,
        [row | {"shard": -1, "rules": 0, "stays": None} for row in gone],
    )
    for shard in range(shards):
        _shard(data, shard, work[shard::shards])
        listed = [row | {"place": place} for place, row in enumerate(work[shard::shards])]
        _write(data / "catalog" / "shards" / f"{shard:05}.parquet", schema.WORK, listed)
    _metrics(metrics, rows, work)
    (data / "release").mkdir()
    (data / "release" / "manifest.json").write_text("{}")
    return data, metrics


def _link(rng: np.random.Generator, number: int, text: str | None) -> dict[str, Any]:
    weights = np.array([*ENDS.values()], float)
    expected = str(rng.choice([*ENDS], p=weights / weights.sum()))
    language = str(rng.choice(LANGUAGES))
    host = f"img{int(rng.zipf(1.6)) % 30}.example"
    url = f"https://{host}/{number}.jpg"
    caption = text or f"a drawn thing number {number} on a plain wall"
    unsafe, watermark, wrong = (expected == name for name in ("unsafe", "watermark", "low_similarity"))
    split = "nolang" if not language else "en" if language == "en" else "multi"
    width = 40 if expected == "image_too_small" else int(rng.integers(120, 1400))
    return {
        "uid": "" if expected == "no_alt" else hashlib.md5((caption + url).encode()).hexdigest(),
        "url": url, "text": caption, "caption": caption, "host": host, "language": language, "language_confidence": 0.9,
        "split": split, "license": "?", "crawl": "demo", "wat": "wat/0.warc.wat.gz", "wat_order": 0,
        "record_offset": number, "link_index": number % 7, "page_url": f"https://page{number // 7}.example/",
        "page_date": "2024-01-01T00:00:00Z", "page_signals": "", "expected": expected, "matching": not wrong,
        "unsafe": unsafe, "watermark": watermark, "opted_out": "", "broken": "", "near_duplicate": False,
        "original": "", "beauty": 5.0,
        "thing": "star", "color": "red", "seen": 1, "emails": 0, "phones": 0, "cards": 0, "accounts": 0, "ips": 0,
        "similarity": float(np.clip(rng.normal(0.22 if wrong else 0.72, 0.11), -1, 1)),
        "punsafe": float(np.clip(rng.normal(0.9 if unsafe else 0.08, 0.12), 0, 1)),
        "pwatermark": float(np.clip(rng.normal(0.95 if watermark else 0.1, 0.1), 0, 1)),
        "aesthetic": float(np.clip(rng.normal(5.2, 1.4), 1, 10)),
        "original_width": width, "original_height": int(width * rng.uniform(0.6, 1.4)),
        "sha256": hashlib.sha256(f"picture {number}".encode()).hexdigest(), "color_": int(rng.integers(len(COLORS))),
    }  # fmt: skip


def _copies(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # A pair that is expected to end as a duplicate needs its first occurrence before it; an image likewise.
    first = next(row for row in rows if row["expected"] == KEEP)
    later = []
    for place, row in enumerate(rows):
        if row["expected"] == "duplicate_pair":
            rows[place] = row | {
                name: first[name] for name in ("uid", "url", "text", "caption", "host", "language", "split")
            }
            rows[place]["record_offset"] += 10_000
        if row["expected"] == "duplicate_image":
            row["sha256"] = hashlib.sha256(f"copied {place}".encode()).hexdigest()
            kept = row | {"expected": KEEP, "uid": "0" + row["uid"][1:], "link_index": row["link_index"] + 1_000}
            row["uid"] = "f" + row["uid"][1:]
            later.append(kept)
    return later


def rules(row: dict[str, Any]) -> list[str]:
    """Name what would drop a downloaded row, in the filter's order, at the defaults of params.yaml."""
    wrong = {
        "image_too_small": row["expected"] == "image_too_small",
        "unsafe": row["punsafe"] > 0.5,
        "watermark": row["pwatermark"] > 0.8,
        "low_similarity": row["similarity"] < 0.5,
    }
    found = [name for name, is_wrong in wrong.items() if is_wrong]
    # Of equal images, those that nothing else drops are compared.
    return found or ["duplicate_image"] * (row["expected"] == "duplicate_image")


def verdict(row: dict[str, Any]) -> str:
    """Return what the filter would say of a downloaded row, at the defaults of params.yaml."""
    return (*rules(row), KEEP)[0]


def _reason(row: dict[str, Any]) -> str:
    return row["expected"] if REASON_STAGE.get(row["expected"]) == "download" else KEEP


def _shard(data: Path, number: int, rows: list[dict[str, Any]]) -> None:
    images, scores, verdicts = [], [], []
    (data / "download").mkdir(exist_ok=True, parents=True)
    with tarfile.open(data / "download" / f"{number:05}.tar", "w") as tar:
        for place, row in enumerate(rows):
            key, reason = f"{number:05}{place:04}", _reason(row)
            got = reason == KEEP
            row["verdict"] = verdict(row) if got else reason
            blank = None if got else {"sha256": "", "original_width": None, "original_height": None}
            signal = reason if reason in {"robots", "tdmrep", "x_robots_tag"} else ""
            images.append(
                row | (blank or {}) | {
                    "key": key, "status": "success" if got else "failed_to_download", "reason": reason,
                    "error_message": None if got else reason, "http_status": 200,
                    "listed_by": None, "compared": None, "server_date": None, "fetched": None,
                    "final_url": row["url"], "content_type": "image/jpeg", "rights": "refused" if signal else "allowed",
                    "rights_signal": signal, "rights_evidence": "", "rights_source": "", "rights_time": None,
                    "format": "JPEG", "bytes": 1000, "md5": "", "width": 96, "height": 96, "animated": False,
                    "sha1": None, "pdq": None, "pdq_quality": None,
                }
            )  # fmt: skip
            nan = {} if got else dict.fromkeys(("similarity", "punsafe", "pwatermark", "aesthetic"), float("nan"))
            scores.append(row | nan | {"slot": place, "reason": reason})
            mask = sum(1 << RULE_BITS[name] for name in rules(row)) if got else 0
            verdicts.append(row | {"shard": number, "reason": row["verdict"], "rules": mask, "stays": None})
            if got:
                body = _picture(row)
                info = tarfile.TarInfo(f"{key}.jpg")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    _write(data / "download" / f"{number:05}.parquet", schema.IMAGES, images)
    _write(data / "score" / f"{number:05}.parquet", schema.SCORES, scores)
    _new_texts(data, number, [row for row in rows if row["verdict"] == KEEP])
    # Turned round: who joins by row order between stages gets it wrong.
    _write(data / "filter" / f"{number:05}.parquet", schema.VERDICTS, verdicts[::-1])


def _new_texts(data: Path, number: int, rows: list[dict[str, Any]]) -> None:
    """Write English texts of what is not English, and a caption for each; every ninth pair has none."""
    translated = [
        {"uid": row["uid"], "similarity": row["similarity"], "reason": "split_not_asked"}
        if row["split"] == "en"
        else {"uid": row["uid"], "similarity": row["similarity"], "english_similarity": row["similarity"] + 0.02}
        for row in rows
    ]
    captioned = [
        {"uid": row["uid"], "similarity": row["similarity"]}
        | ({"caption_similarity": 0.7} if place % 9 else {"reason": "empty_caption"})
        for place, row in enumerate(rows)
    ]
    tables.write(data / "translate" / f"{number:05}.parquet", tables.translations(*translated))
    tables.write(data / "caption" / f"{number:05}.parquet", tables.captions(*captioned))


def _picture(row: dict[str, Any]) -> bytes:
    image = Image.new("RGB", (256, 192), "#dfe7ee")
    draw = ImageDraw.Draw(image)
    draw.ellipse((70, 40, 180, 150), fill=COLORS[row["color_"]])
    if row["unsafe"]:
        draw.rectangle((5, 5, 60, 60), fill="#ff00ff")
    if row["watermark"]:
        draw.text((90, 90), "(c) sample", fill="white")
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def _metrics(folder: Path, rows: list[dict[str, Any]], work: list[dict[str, Any]]) -> None:
    folder.mkdir()
    ledgers = {stage: Ledger() for stage in ("extract", "catalog", "download", "score", "group", "filter", "release")}
    for row in rows:
        stage = REASON_STAGE.get(row["expected"])
        ledgers["extract"].add([row["expected"] if stage == "extract" else KEEP])
        if stage != "extract":
            ledgers["catalog"].add([row["expected"] if stage == "catalog" else KEEP])
    for row in work:
        ledgers["download"].add([_reason(row)])
        if _reason(row) == KEEP:
            ledgers["score"].keep()
            ledgers["group"].keep()
            ledgers["filter"].add([row["verdict"]])
            if row["verdict"] == KEEP:
                ledgers["release"].keep()
    names = {"extract": "links", "download": "images", "score": "images", "group": "images", **dict(NEW_TEXTS)}
    ledgers |= dict.fromkeys(dict(NEW_TEXTS), ledgers["release"])
    model = {"model": "demo", "weights_sha256": "d" * 64, "licence": "mit", "rank": [{"weights_sha256": "c" * 64}]}
    further: dict[str, dict[str, Any]] = {
        "extract": {"records": {"seen": 60, "kept": 60, "dropped": {}}},
        "score": {"weights_sha256": {"demo": "f" * 64}, "heads_sha256": {"aesthetic": "e" * 64}},
        "filter": {"kept": dict(sorted(Counter(row["split"] for row in work if row["verdict"] == KEEP).items()))},
        **{stage: {"model": model} for stage, _ in NEW_TEXTS},
    }
    for stage, ledger in ledgers.items():
        ledger.check(stage)
        values: dict[str, Any] = {names.get(stage, "pairs"): ledger.as_dict()}
        values |= further.get(stage, {})
        (folder / f"{stage}.json").write_text(json.dumps(values, indent=2))
    (folder / "crawl.json").write_text(json.dumps({"wats": 1, "pages": 60}))


def _write(path: Path, table: schema.Table, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: [row[name] for row in rows] for name in table.names}
    pq.write_table(table.check(pa.table(columns, schema=table.schema)), path)


def change(path: Path, uid: str, values: dict[str, Any]) -> None:
    """Rewrite one row of a table of the version."""
    table = pq.read_table(path)
    rows = [row | (values if row["uid"] == uid else {}) for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def load_metrics(folder: Path) -> dict[str, Any]:
    """Read the stages' counts by stage."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def name_crawls(data: Path, metrics: Path, *crawls: str) -> None:
    """Give each shard its crawl, and add what the catalog counts by crawl: each crawl has a pair of each before it."""
    waves: dict[str, dict[str, int]] = {}
    for shard, crawl in zip(sorted((data / "download").glob("*.parquet")), crawls, strict=True):
        table = pq.read_table(shard)
        place = table.column_names.index("crawl")
        column = pa.array([crawl] * table.num_rows, table.schema.field(place).type)
        pq.write_table(table.set_column(place, table.schema.field(place), column), shard)
        counts = waves.setdefault(crawl, {"pairs": 0, "new": 0, "repeated": len(waves), "shards": 0})
        counts["new"] += table.num_rows
        counts["pairs"] = counts["new"] + counts["repeated"]
        counts["shards"] += 1
    path = metrics / "catalog.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"waves": waves}, indent=2))
