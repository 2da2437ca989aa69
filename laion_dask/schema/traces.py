"""The trace of a stage: a row for each part with the worker that made it, its times, its memory and its bytes.

It decides no row of a version, so it is not in the keys of parts (`runner/code_digest.py`).
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from laion_dask.schema.columns import Column, Table

FINISHED: Final = "finished"
FAILED: Final = "failed"
UNMEASURED: Final = "unmeasured"

OUTCOMES: Final = {
    FINISHED: "an attempt has made the part, in this run or in an earlier one",
    FAILED: "the part raised an error, or its task could not begin",
    UNMEASURED: "the part is finished, but what it took was not recorded, as by earlier code",
}
"""The closed list of the column `outcome`."""

TRACE: Final = Table(
    "trace",
    "every stage with parts",
    "one part and how it was made; of these machines and runs, so it lies beside the version, not in it",
    (
        Column("stage", pa.string(), "name of the stage"),
        Column("part", pa.string(), "name of the part, as in the progress line"),
        Column("key", pa.string(), "digest of the part's inputs, parameters and code, which names its folder"),
        Column("outcome", pa.string(), "finished, failed or unmeasured; what follows is null where it is not known"),
        Column("attempt", pa.int32(), "1, and 1 more for each worker that had died in this part before", "count"),
        Column("worker", pa.string(), "address of the worker that ran this attempt"),
        Column("host", pa.string(), "name of the worker's machine"),
        Column("process", pa.int64(), "process id of the worker on its machine"),
        Column(
            "submitted", pa.float64(), "when the driver gave it to the cluster, by its own clock", "s since 1970, UTC"
        ),
        Column("started", pa.float64(), "when the worker began with the part, by its own clock", "s since 1970, UTC"),
        Column("ended", pa.float64(), "when the worker had finished the part, by its own clock", "s since 1970, UTC"),
        Column("seconds", pa.float64(), "time from start to end", "s"),
        Column(
            "processor_seconds",
            pa.float64(),
            "processor time of the worker's process and its children while the part ran; parts that ran in one process"
            " at the same time share it equally",
            "s",
        ),
        Column(
            "peak_bytes",
            pa.int64(),
            "largest resident memory of the worker's process while the part ran, without its children",
            "bytes",
        ),
        Column("bytes", pa.int64(), "size of all files of the part", "bytes"),
    ),
)

TABLES: Final = (TRACE,)
