"""One attempt to download a pair: what came, what was decoded, and the row that the shard's table gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from laion_dask.blocklists import known_content
from laion_dask.download import worklist
from laion_dask.images import hashes, prepare
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import shards
from laion_dask.web.fetch.outcome import Fetched


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended: the response, the prepared picture, and what they were compared with."""

    fetched: Fetched
    prepared: prepare.Prepared
    digests: Mapping[hashes.Digest, str] = field(default_factory=dict)
    """Digests of the original bytes in hex, by kind; empty where no body came or a list of known content has it."""
    listed_by: tuple[str, ...] = ()
    """Names of the lists of known content that have the address, the bytes or the picture."""
    compared: str | None = None
    """The class (`schema.comparison`) of a picture that was refused beside an earlier version's; else None."""

    @classmethod
    def undecoded(cls, fetched: Fetched, listed_by: tuple[str, ...] = ()) -> Attempt:
        """Return the attempt that ended before anything was decoded."""
        message = known_content.message_for(listed_by) if listed_by else fetched.message
        return cls(fetched, prepare.Prepared(fetched.reason, message), listed_by=listed_by)

    @classmethod
    def of_known_content(cls, fetched: Fetched, listed_by: tuple[str, ...]) -> Attempt:
        """Return the attempt whose bytes or picture lists of known content have."""
        fetched = replace(fetched, reason=known_content.LISTED_HASH)
        return cls.undecoded(fetched, listed_by)

    @property
    def is_listed(self) -> bool:
        """Whether a list of known content ended it: its row then says nothing that leads to the image."""
        return self.prepared.reason in known_content.LISTED

    def row(self, key: str, work: Mapping[str, Any]) -> dict[str, Any]:
        """Build the row of the attempt at `work`, a row of the work list: `schema.IMAGES`, and the list's own columns.

        What is not known is null, sizes and hashes among it; `known_content.blank` empties the row of known content.
        """
        row = {**work, **self._columns(key, work)}
        return known_content.blank(row) if self.is_listed else row

    def _columns(self, key: str, work: Mapping[str, Any]) -> dict[str, Any]:
        fetched, prepared = self.fetched, self.prepared
        if fetched.reason == KEEP and not worklist.as_expected(fetched.body, work.get(worklist.EXPECTED_HASH)):
            # As img2dataset's verify_hash: other bytes are a failed download, whatever they show.
            fetched = replace(fetched, reason="hash_mismatch", message="hash mismatch")
            prepared = replace(prepared, reason=fetched.reason, message=fetched.message)
        failed = shards.FAILED_TO_RESIZE if fetched.reason == KEEP else shards.FAILED_TO_DOWNLOAD
        return {
            "key": key,
            "uid": work["uid"],
            "url": work["url"],
            "caption": work["text"],
            "status": shards.SUCCESS if prepared.reason == KEEP else failed,
            "error_message": prepared.message,
            "reason": prepared.reason,
            "listed_by": list(self.listed_by) or None,
            "compared": self.compared,
            "http_status": fetched.status,
            "server_date": fetched.server_date,
            "fetched": fetched.asked,
            "final_url": fetched.final_url,
            "content_type": fetched.content_type,
            "rights": fetched.decision.rights,
            "rights_signal": fetched.decision.signal,
            "rights_evidence": fetched.decision.evidence,
            "rights_source": fetched.decision.source,
            "rights_time": fetched.decision.time,
            "format": prepared.format,
            "animated": prepared.animated if prepared.reason == KEEP else None,
            "bytes": len(fetched.body),
            "md5": self.digests.get("md5"),
            "sha1": self.digests.get("sha1"),
            "sha256": self.digests.get("sha256"),
            "pdq": prepared.pdq,
            "pdq_quality": prepared.pdq_quality,
            "original_width": prepared.original_width or None,
            "original_height": prepared.original_height or None,
            "width": prepared.width or None,
            "height": prepared.height or None,
        }
