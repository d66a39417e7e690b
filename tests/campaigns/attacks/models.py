"""Attacks through a model file that is whole in itself, all digests right: it reaches outside, or never ends."""

import random
from collections.abc import Callable
from typing import Any

from tests.campaigns.attacks.subject import Subject, consistent, rewritten

GRAPH, NODE, INITIALIZER, SPARSE = 7, 1, 5, 15  # fields of ModelProto and GraphProto in onnx.proto3


def outside(subject: Subject, rng: random.Random) -> bytes:
    """Weights are in another file, which no digest covers, or the graph is."""
    elsewhere = rng.choice((
        _field(14, 1),
        _field(13, _field(1, b"location") + _field(2, rng.choice((b"weights.bin", b"../key", b"/dev/stdin")))),
        _field(14, 2**32 + 1) + _field(13, b""),
    ))  # fmt: skip
    added = rng.choice((
        _field(GRAPH, _field(INITIALIZER, elsewhere)),
        _field(GRAPH, _field(SPARSE, _field(rng.choice((1, 2)), elsewhere))),
        _node(b"Constant", _field(rng.choice((5, 10)), elsewhere)),
        _node(b"Constant", _field(rng.choice((22, 23)), _field(1, elsewhere))),
        _node(b"EPContext", b""),
    ))  # fmt: skip

    def group(model: Any, schema: Any) -> None:
        model.externalBufferGroups = [schema.ExternalBufferGroupT()]
        model.externalBufferGroups[0].name = "weights.bin"

    return _altered(subject, rng, added, group)


def looping(subject: Subject, rng: random.Random) -> bytes:
    """A graph with branches or loops, or with functions, whose work has no end."""
    added = rng.choice((
        _node(rng.choice((b"Loop", b"If", b"Scan", b"SequenceMap", b"Add")), _field(rng.choice((6, 11)), b"")),
        _field(25, _field(1, b"Add")),
        _field(20, b""),
    ))  # fmt: skip

    def loop(model: Any, schema: Any) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = rng.choice((31, 118, 119, 129, 174, 190, 198, 199, 200, 206, 209))
        code.deprecatedBuiltinCode = rng.choice((0, min(code.builtinCode, 127)))
        rng.choice((
            lambda: model.operatorCodes.append(code),
            lambda: model.subgraphs.append(model.subgraphs[0]),
            model.subgraphs.clear,
        ))()  # fmt: skip

    return _altered(subject, rng, added, loop)


def _altered(subject: Subject, rng: random.Random, added: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """A bundle one of whose models has this in it: an .onnx at its end, where it is merged, a .tflite in its tables."""
    plain, members = subject.manifest, subject.members
    path = rng.choice([variant["file"] for variant in plain["variants"]])
    content = members[path]
    members[path] = content + added if path.endswith(".onnx") else _edited(content, change)
    plain["variants"] = [variant for variant in plain["variants"] if variant["file"] == path]
    names = {variant["name"] for variant in plain["variants"]}
    plain["calibration"] = [one for one in plain["calibration"] if one["variant"] in names]
    for part in ("outputs", "tolerance"):
        plain["self_test"][part] = {name: plain["self_test"][part][name] for name in names}
    return rewritten(subject, rng, consistent(plain, members), members)


def _edited(content: bytes, change: Callable[[Any, Any], None]) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model, schema)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _node(op_type: bytes, attribute: bytes) -> bytes:
    return _field(GRAPH, _field(NODE, _field(4, op_type) + _field(5, attribute)))


def _field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
