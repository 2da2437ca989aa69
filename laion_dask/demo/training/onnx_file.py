"""Nodes and weights of a small network in, an ONNX file out: as many of the format's messages as that takes.

Field numbers are those of `onnx/onnx.proto` (IR version 8, operators of version 17). The package `onnx`, which torch's
own exporter needs, is not among what this project installs.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

_IR_VERSION: Final = 8
_OPERATORS: Final = 17
_KINDS: Final = {"float32": 1, "int64": 7}
_LENGTH: Final = 2
"""Protobuf's wire type of what begins with its length; 0 is that of a whole number."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator: what it reads and writes by name, and its attributes, whole numbers or lists of them."""

    kind: str
    reads: tuple[str, ...]
    writes: str
    attributes: Mapping[str, int | Sequence[int]] = field(default_factory=dict)


def model(
    nodes: Sequence[Node],
    weights: Mapping[str, np.ndarray],
    *,
    reads: Mapping[str, Sequence[int | str]],
    writes: Mapping[str, Sequence[int | str]],
) -> bytes:
    """Return the file; `reads` and `writes` are float32 tensors by name, with their sizes, a word for a free one."""
    graph = b"".join(
        [
            *(_part(1, _node(node)) for node in nodes),
            _part(2, b"graph"),
            *(_part(5, _tensor(name, values)) for name, values in weights.items()),
            *(_part(11, _value(name, shape)) for name, shape in reads.items()),
            *(_part(12, _value(name, shape)) for name, shape in writes.items()),
        ]
    )
    return _number(1, _IR_VERSION) + _part(7, graph) + _part(8, _part(1, b"") + _number(2, _OPERATORS))


def _node(node: Node) -> bytes:
    attributes = b"".join(_part(5, _attribute(name, value)) for name, value in node.attributes.items())
    names = b"".join(_part(1, name.encode()) for name in node.reads)
    return names + _part(2, node.writes.encode()) + _part(4, node.kind.encode()) + attributes


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    head = _part(1, name.encode())
    if isinstance(value, int):
        return head + _number(3, value) + _number(20, 2)
    return head + b"".join(_number(8, one) for one in value) + _number(20, 7)


def _tensor(name: str, values: np.ndarray) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    raw = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<")).tobytes()
    return sizes + _number(2, _KINDS[str(values.dtype)]) + _part(8, name.encode()) + _part(9, raw)


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    sizes = b"".join(_part(1, _number(1, size) if isinstance(size, int) else _part(2, size.encode())) for size in shape)
    return _part(1, name.encode()) + _part(2, _part(1, _number(1, 1) + _part(2, sizes)))


def _part(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    # Negative numbers are their two's complement in 64 bits.
    return _varint(number << 3) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _varint(value: int) -> bytes:
    found = []
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return struct.pack(f"{len(found) + 1}B", *found, value)
