"""Check a body before its picture is kept: known content, the owner's refusal, decoding, an earlier version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from laion_dask import params
from laion_dask.download import earlier
from laion_dask.download.attempt import Attempt
from laion_dask.download.known_gate import KnownContentGate
from laion_dask.images import decoders, hashes, prepare
from laion_dask.images.blur import Box
from laion_dask.schema.reasons import KEEP
from laion_dask.web.fetch.outcome import Fetched
from laion_dask.web.rights.decision import Policy


@dataclass(frozen=True)
class BodyChecks:
    """What every body of a shard goes through, in this order; decoding takes place in a process that has limits."""

    decoders: decoders.Decoders
    settings: params.Download
    policy: Policy
    gate: KnownContentGate

    @classmethod
    def of(cls, settings: params.Download, gate: KnownContentGate, processes: int) -> BodyChecks:
        """Return the checks that the parameters ask for, with this many decoder processes."""
        rules = prepare.Rules(
            mode=settings.resize,
            side_px=settings.side_px,
            max_pixels=settings.max_pixels,
            smaller=settings.smaller,
            encode=settings.encode,
            quality=settings.quality,
            pdq=settings.pdq,
        )
        policy = Policy.of(settings)
        ready = decoders.cached(
            rules,
            policy,
            count=processes,
            timeout_s=settings.decode_timeout_s,
            memory_bytes=settings.decode_memory_mb * 1_000_000,
        )
        return cls(ready, settings, policy, gate)

    def check(self, fetched: Fetched, before: earlier.Before | None, boxes: Sequence[Box]) -> Attempt:
        """Decide on a body that came; `before` is what an earlier version has of the pair, `boxes` are to be blurred.

        Of a refused body only the hashes are kept, of known content nothing.
        """
        if listed_by := self.gate.of_body(fetched.body):
            return Attempt.of_known_content(fetched, listed_by)
        digests = hashes.digests(fetched.body, self.settings.hashes)
        in_file, prepared = self.decoders.process(fetched.body, boxes, fetched.server_date)
        decision = self.policy.strictest([fetched.decision, in_file])
        if self.policy.binds(decision):
            return Attempt(replace(fetched, decision=decision, reason=decision.signal), prepared, digests)
        if listed_by := self.gate.of_picture(prepared):
            return Attempt.of_known_content(fetched, listed_by)
        attempt = Attempt(replace(fetched, decision=decision), prepared, digests)
        if before is None or prepared.reason != KEEP:
            return attempt
        return _compared(attempt, before, self.settings.changed)


def _compared(attempt: Attempt, before: earlier.Before, mode: earlier.Mode) -> Attempt:
    """Compare with the earlier version, and refuse a picture that `mode` does not let pass; its hashes stay."""
    prepared, sha256 = attempt.prepared, attempt.digests.get("sha256")
    pdq = (prepared.pdq or hashes.pdq_as_stored(prepared.picture).hex) if sha256 != before.sha256 else None
    found = earlier.compare(before, sha256, pdq)
    message = earlier.refusal(found, mode)
    if message is None:
        # Its row is that of a download without a comparison: a rebuild that is verified has the same bytes.
        return attempt
    prepared = replace(prepared, reason=earlier.CHANGED_BYTES, message=message, picture=b"", width=0, height=0)
    return replace(attempt, prepared=prepared, compared=found)
