"""Attacks on the manifest, some of which make a bundle that is whole in itself."""

import json
import random
from collections.abc import Iterator
from typing import Any

from edge_oneshot_device.bundle.manifest import MANIFEST_NAME
from tests.campaigns.attacks.subject import MIB, Subject, consistent, rewritten


def wrong_size(subject: Subject, rng: random.Random) -> bytes:
    """The manifest says another size of a member, or another digest."""
    plain = subject.manifest
    member = rng.choice(plain["members"])
    if rng.random() < 0.6:
        size = member["bytes"]
        member["bytes"] = rng.choice((size + 1, size - 1, 0, -size, 2**32 + size, 2**63, 2**64, 1e3, str(size), None))
        for variant in plain["variants"]:
            if variant["file"] == member["path"] and rng.random() < 0.7:
                variant["bytes"] = member["bytes"]
    else:
        digest = member["sha256"]
        member["sha256"] = rng.choice((digest.upper(), digest[:-1], digest + "0", "", rng.randbytes(32).hex(), None))
    return rewritten(subject, rng, json.dumps(plain).encode())


def format_number(subject: Subject, rng: random.Random) -> bytes:
    """A format newer than this program, or none at all."""
    raw = rng.choice(("2", "3", "99", "1e3", str(2**31), str(2**63), str(10**30), "0", "-1", "1.0", "1.5", '"1"', '"2"',
                      "null", "true", "false", "[1]", "{}", "NaN", "Infinity", "9" * 5000))  # fmt: skip
    plain = subject.manifest
    if rng.random() < 0.3:
        plain["of a newer format"] = 1
    return rewritten(subject, rng, _raw(plain, plain, "format", raw))


def number(subject: Subject, rng: random.Random) -> bytes:
    """NaN, infinite, negative, huge or misspelt numbers, scales above all."""
    plain = subject.manifest
    variant = rng.choice(plain["variants"])
    scales = [
        (plain["input"]["scale"], 0), (plain["input"]["mean"], 0), (plain["input"]["value_range"], 1),
        (variant["input"], "scale"), (variant["output"], "scale"), (variant["output"], "zero_point"),
        (plain["input"], "height"), (plain["embedding"], "size"),
    ]  # fmt: skip
    anywhere = [(place, key) for place, key in _places(plain) if type(place[key]) in (int, float)]
    place, key = rng.choice(rng.choice((scales, anywhere)))
    raw = rng.choice((
        "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e308", "-1e308", "5e-324", "-5e-324", "1e-999", "0",
        "-0.0", "-1", "-127.5", "1e6", str(2**31), str(2**63), str(2**64), "9" * 400, "9" * 5000, "1e" + "9" * 1000,
        "0x10", "01", "+1", ".5", "1.", "1e", "1_000", '"1"', "true", "null", "[]", "{}", "0." + "1" * 100_000,
    ))  # fmt: skip
    return rewritten(subject, rng, _raw(plain, place, key, raw))


def repeated_key(subject: Subject, rng: random.Random) -> bytes:
    """A key stands twice in an object of the manifest, the second time with the same value or another."""
    plain = subject.manifest
    place = rng.choice(
        [plain, *(part[key] for part, key in _places(plain) if isinstance(part[key], dict) and part[key])]
    )
    name = rng.choice(list(place))
    place["@twice@"] = rng.choice((place[name], None, 0))
    spelt = rng.choice((json.dumps(name), f'"\\u{ord(name[0]):04x}{name[1:]}"'))
    return rewritten(subject, rng, json.dumps(plain).replace('"@twice@"', spelt).encode())


def nested(subject: Subject, rng: random.Random) -> bytes:
    """Arrays or objects in one another, deeper than any parser's stack."""
    depth = rng.choice((10, 500, 1000, 5000, 100_000, 600_000))
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")))
    deep = opening * depth + "0" + rng.choice((closing * depth, closing * (depth - 1), ""))
    plain = subject.manifest
    if rng.random() < 0.3:
        return rewritten(subject, rng, deep.encode())
    places = [*_places(plain), (plain, "unknown")]
    return rewritten(subject, rng, _raw(plain, *rng.choice(places), deep))


def encoded(subject: Subject, rng: random.Random) -> bytes:
    """The manifest in another encoding, or with what UTF-8 or JSON do not allow in a text."""
    plain = subject.manifest
    if rng.random() < 0.4:
        plain["provenance"]["data"] = "drawn in Tromsø"
        codec = rng.choice(("utf-16", "utf-32", "utf-16-be", "utf-8-sig", "latin-1", "utf-7", "cp037"))
        return rewritten(subject, rng, json.dumps(plain, ensure_ascii=False).encode(codec))
    odd = rng.choice(
        (
            b"\xff",
            b"\xc0\xaf",
            b"\xed\xa0\x80",
            b"\xf5\x80\x80\x80",
            b"\x80",
            b"\0",
            b"\n",
            b"\x1b[2J",
            b'"',
            b"\\",
            b"\\x41",
            b"\\ud800",
            b"\\udc00\\ud800",
            b"\\u0000",
            b"\\u001b[2J",
            b"\\u202e",
            b"\\u12",
        )
    )
    texts = [(place, key) for place, key in _places(plain) if isinstance(place[key], str)]
    place, key = rng.choice([*texts, (plain["provenance"], "data")])
    place[key] = "@odd@"
    return rewritten(subject, rng, json.dumps(plain).encode().replace(b"@odd@", odd))


def mutated(subject: Subject, rng: random.Random) -> bytes:
    """Keys and entries of the manifest are lost, added, exchanged or of another kind."""
    plain = subject.manifest
    for _ in range(rng.randint(1, 3)):
        places = list(_places(plain))
        place, key = rng.choice(places)
        how = rng.randrange(5)
        if how == 0:
            del place[key]
        elif how == 1 and isinstance(place, dict):
            place[rng.choice(("unknown", "", "__class__", key + " ", key.upper()))] = place[key]
        elif how == 2:
            place[key] = rng.choice((None, True, 0, -1, 1.5, "", "x", [], {}, [[]], "a" * 5000))
        elif how == 3 and isinstance(place[key], list):
            place[key] = place[key] * rng.choice((0, 2, 100))
        else:
            other, name = rng.choice(places)
            place[key] = json.loads(json.dumps(other.get(name) if isinstance(other, dict) else None))
    return rewritten(subject, rng, json.dumps(plain).encode())


def huge_manifest(subject: Subject, rng: random.Random) -> bytes:
    """A manifest of 100 MB, or of nearly as much as is read, made to be slow or large once parsed."""
    text = json.dumps(subject.manifest)
    size = rng.choice((100 * 10**6, (4 << 20) - len(text) - 100))
    filling = rng.choice(("[],", "{},", '{"a":0},', '"a",', "0,", "1e5,", '"\\u0041",', '{"aaaaaaaa":[]},'))
    many = ",".join(f'"{number:x}":0' for number in range(min(size, 4 * MIB) // 12))
    return rewritten(subject, rng, rng.choice((
        lambda: " " * size + text,
        lambda: text + " " * size,
        lambda: text[:-1] + f', "unknown": [{filling * (size // len(filling))}0]}}',
        lambda: text[:-1] + f', "unknown": {{{many}}}}}',
        lambda: text[:-1] + f', "unknown": "{"a" * size}"}}',
        lambda: f"[{filling * (size // len(filling))}0]",
        lambda: text[:-1] + f', "{"a" * size}": 0}}',
        lambda: "1" * size,
        lambda: text.replace('"members": [', '"members": [' + '{"path":"x","bytes":0,"sha256":""},' * (size // 35)),
    ))().encode())  # fmt: skip


def reworded(subject: Subject, rng: random.Random) -> bytes:
    """The manifest says the same in other bytes."""
    plain = subject.manifest
    text = rng.choice((
        lambda: json.dumps(plain),
        lambda: json.dumps(plain, separators=(",", ":")),
        lambda: json.dumps(plain, indent=rng.randint(2, 8)),
        lambda: json.dumps(plain, sort_keys=True),
        lambda: subject.files[MANIFEST_NAME].decode() + "\n",
        lambda: subject.files[MANIFEST_NAME].decode().replace('"name"', '"n\\u0061me"'),
    ))()  # fmt: skip
    return rewritten(subject, rng, text.encode())


def lowered_threshold(subject: Subject, rng: random.Random) -> bytes:
    """Strangers are let in, all digests right."""
    plain = subject.manifest
    lower = rng.choice((0.01, 0.5, 2.0))
    for calibration in plain["calibration"]:
        for point in calibration["points"]:
            point["threshold"] -= lower
    return rewritten(subject, rng, consistent(plain, subject.members))


def senseless(subject: Subject, rng: random.Random) -> bytes:
    """Numbers that no export writes, such as a self-test that nothing fails, all digests right."""
    plain = subject.manifest
    test, variant = plain["self_test"], rng.choice(plain["variants"])
    name, float_output = variant["name"], variant["output"]["dtype"] == "float32"
    largest = max(abs(value) for output in test["outputs"][name] for value in output)
    lax = 0.06 * largest + rng.choice((0, 1, 1e308)) if float_output else rng.choice((17, 1e30))
    calibration, most = rng.choice(plain["calibration"]), rng.choice((1.5, 1e9, 1e30, 1e308))
    points, tail = calibration["points"], calibration["tail"]
    place, key, value = rng.choice((
        (test["tolerance"], name, lax),
        (test["outputs"][name][0], 0, rng.choice((1e31, 1e308)) if float_output else rng.choice((0.5, 300, -1e308))),
        (points[0], "threshold", rng.choice((-1e30, -1e10, -1e308))), (points[-1], "threshold", most),
        (tail, "threshold", rng.choice((-1e30, most))), (tail, "scale", rng.choice((1e-12, 1e30))),
        (tail, "shape", rng.choice((-most, most))), (calibration, "margin", 1e6 * most),
        (calibration["similarity"]["scores"], -1, most), (calibration, "templates", 10**6),
        (calibration, "people", 10**13), (plain["input"]["mean"], 0, rng.choice((-1e6, 1e300))),
        (plain["input"]["scale"], 0, rng.choice((1e-9, 5e-324, -1e300))), (variant["input"], "scale", 1e7),
        (plain["provenance"], "images_seen", 10**15), (plain["provenance"], "data", "x" * 2000),
        (plain, "created", rng.choice(("2026-02-30T00:00:00Z", "9999-99-99T99:99:99Z", "0000-01-01T00:00:00Z"))),
    ))  # fmt: skip
    place[key] = value
    return rewritten(subject, rng, consistent(plain, subject.members))


def altered_model(subject: Subject, rng: random.Random) -> bytes:
    """A model is altered, or another one put in its place, all digests and fingerprints right."""
    plain, members = subject.manifest, subject.members
    path = rng.choice(plain["variants"])["file"]
    data = bytearray(members[path])
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] ^= rng.randint(1, 255)
    members[path] = rng.choice(
        (bytes(data), bytes(data[: rng.randrange(1, len(data))]), rng.choice(list(members.values())))
    )
    return rewritten(subject, rng, consistent(plain, members), members)


def altered_section(subject: Subject, rng: random.Random) -> bytes:
    """The preprocessing is altered, fingerprints right."""
    plain = subject.manifest
    section = plain["input"]
    factor = rng.choice((-1.0, 2.0, 1e-3, 1e30, 1e300))
    section["scale"] = [value * factor for value in section["scale"]]
    ends = [(level - m) / s for level in (0.0, 255.0) for m, s in zip(section["mean"], section["scale"], strict=True)]
    section["value_range"] = [min(ends), max(ends)]
    section["resize"] = rng.choice(("box", "bilinear", "hamming", "bicubic", "lanczos"))
    section["min_contrast"] = rng.randint(1, 255)
    return rewritten(subject, rng, consistent(plain, subject.members))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (object or array, key or index) below a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def _raw(plain: dict[str, Any], place: Any, key: Any, raw: str) -> bytes:
    """JSON of a manifest with text put in, as it stands, for one value."""
    place[key] = "@raw@"
    return json.dumps(plain).replace('"@raw@"', raw).encode()
