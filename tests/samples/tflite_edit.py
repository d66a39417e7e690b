"""Changing a .tflite file: through the schema's own objects, or blindly, as an attacker would."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

_WORDS = [value.to_bytes(4, "little") for value in (0, 1, 4096, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)]


def edited(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The file after `change` was called with its ModelT."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def damaged(files: list[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` files with flipped bits, offsets and lengths of extreme values, cut or with bytes put in."""
    rng = random.Random(seed)
    for _ in range(count):
        content = bytearray(rng.choice(files))
        kind = rng.choice(("bit", "word", "cut", "insert"))
        for _ in range(1 if kind == "cut" else rng.choice((1, 3, 10, 50))):
            # a file's tables stand at its ends, its weights between
            ends = (rng.randrange(min(4000, len(content))), len(content) - 1 - rng.randrange(min(4000, len(content))))
            at = rng.choice((*ends, rng.randrange(len(content))))
            if kind == "bit":
                content[at] ^= 1 << rng.randrange(8)
            elif kind == "word":
                content[at : at + 4] = rng.choice(_WORDS)
            elif kind == "insert":
                content[at:at] = bytes([rng.randrange(256)])
            else:
                del content[at + 1 :]
        yield bytes(content)
