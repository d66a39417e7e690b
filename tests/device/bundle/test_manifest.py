"""The manifest: parsed strictly, consistent with itself, and what a fingerprint binds."""

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.codec import decode_manifest, encode_manifest
from edge_oneshot_device.bundle.manifest import EmbeddingSection, Manifest, fingerprint
from edge_oneshot_device.errors import IntegrityError
from tests.raising import raises

DIGEST = "0" * 64
FINGERPRINT = "d268d406378766f8f90e23cf457ae599b7b536489875b1871787bd93d7ad8906"


@pytest.fixture
def manifest(make_bundle) -> Manifest:
    return Bundle.open(make_bundle()).manifest


@pytest.fixture
def plain(manifest) -> dict:
    return json.loads(encode_manifest(manifest))


def put(path: str, value: object):
    """An edit of a plain manifest: the dotted path is set to the value, or a function of the old one."""

    def edit(plain: dict) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        place = plain
        for key in parents:
            place = place[key]
        place[last] = value(place[last]) if callable(value) else value

    return edit


def golden(plain: dict) -> dict:
    return next(member for member in plain["members"] if member["path"] == "golden/ada.png")


def repeat_first(values: list) -> list:
    return [values[0], *values]


def test_a_manifest_survives_the_round_trip(manifest):
    encoded = encode_manifest(manifest)
    assert decode_manifest(encoded) == manifest
    assert encode_manifest(decode_manifest(encoded)) == encoded


def test_floats_survive_the_round_trip_bit_for_bit(manifest):
    scales = [variant.output.scale for variant in decode_manifest(encode_manifest(manifest)).variants]
    assert scales == [variant.output.scale for variant in manifest.variants]
    assert scales[0] > 0.0


FAULTS = [
    (put("surprise", 1), "unknown field `surprise`"),
    (put("input.surprise", 1), r"unknown field `surprise`.*\$\.input"),
    (lambda plain: plain.pop("members"), "missing required field `members`"),
    (put("format", 2), "format 2 is newer than 1"),
    (put("format", 0), "format"),
    (put("format", True), "format"),
    (put("name", "Has Spaces"), "name"),
    (put("name", "name\n"), "name"),
    (put("name", "-dash"), "name"),
    (put("created", "2026-01-01"), "created"),
    (put("created", "2026-02-30T00:00:00Z"), "day is out of range"),
    (put("created", "2026-01-01T24:61:00Z"), "must be in"),
    (put("created", "0000-01-01T00:00:00Z"), "year"),
    (put("created", "٢٠٢٦-01-01T00:00:00Z"), "created"),
    (put("members.0.path", "/etc/passwd"), "path"),
    (put("members.0.path", "../up"), "path"),
    (put("members.0.path", "a/../up"), "path"),
    (put("members.0.path", "a//b"), "path"),
    (put("members.0.path", "a\\b"), "path"),
    (put("members.0.path", "a\n"), "path"),
    (put("members.0.path", "a" * 101), "path"),
    (put("members.0.path", "manifest.json"), "manifest.json cannot be a member"),
    (put("members.0.sha256", DIGEST.upper() + "\n"), "sha256"),
    (put("members.0.sha256", "A" * 64), "sha256"),
    (put("members.0.bytes", -1), "bytes"),
    (put("members.0.bytes", 1), "int8: 3240 bytes, but its member has 1"),
    (put("members.0.sha256", DIGEST), "its fingerprint is not that of"),
    (put("members", repeat_first), "a member is listed twice"),
    (put("input.width", 7), "width"),
    (put("input.width", 9), "fingerprint"),
    (put("input.colour", "rgb"), "need 3 values each"),
    (put("input.resize", "nearest"), "resize"),
    (put("input.mean", [127.5, 127.5]), "need 1 values each"),
    (put("input.scale", [0.0]), r"scale \(0\.0,\): at least 0\.0001"),
    (put("input.scale", [1e-5]), r"scale \(1e-05,\): at least 0\.0001"),
    (put("input.scale", [1e6]), "scale"),
    (put("input.mean", [-1e6]), "mean"),
    (put("input.value_range", [0.0, 1.0]), r"value_range \(0\.0, 1\.0\): 0\.0 is -1\.0"),
    (put("input.value_range", [1.0, -1.0]), "value_range"),
    (put("input.min_contrast", 0), "min_contrast"),
    (put("embedding.size", 8), "fingerprint"),
    (put("embedding.metric", "manhattan"), "metric"),
    (put("variants", []), "no variant"),
    (put("variants", repeat_first), "a variant is listed twice"),
    (put("variants.0.file", "models/other.tflite"), "models/other.tflite is not a member"),
    (put("variants.0.fingerprint", DIGEST), "its fingerprint is not that of"),
    (put("variants.0.input.shape", [1, 8, 9, 1]), "input shape"),
    (put("variants.0.output.shape", [1, 17]), "output shape"),
    (put("variants.0.output.shape", [16]), "output shape"),
    (put("variants.0.input.dtype", "int16"), "dtype"),
    (put("variants.0.input.scale", 0.0), "dtype int8 with scale 0.0"),
    (put("variants.1.input.scale", 0.5), "dtype float32 with scale 0.5"),
    (put("variants.0.input.scale", -1.0), "scale"),
    (put("variants.0.input.scale", 1e-30), "scale 1e-30, at least 1e-12"),
    (put("variants.0.drift.eer.difference", 0.5), "contradicts its rates"),
    (put("variants.0.drift.one_shot.interval", [0.1, 0.2]), "contradicts its rates or interval"),
    (put("variants.0.drift.tpr_at_fpr.1e-2.interval", [-2.0, 0.2]), "interval"),
    (put("variants.0.drift.cosine_min", -1.1), "cosine_min"),
    (put("variants.0.input.zero_point", 128), "int8 with zero point 128"),
    (put("variants.0.runtimes", []), "no runtime"),
    (put("variants.0.runtimes", ["onnxruntime"]), "format tflite with runtime onnxruntime"),
    (put("variants.2.runtimes", ["litert"]), "format onnx with runtime litert"),
    (put("self_test.images", ["golden/none.png"]), "golden/none.png is not a member"),
    (put("self_test.images", lambda paths: paths[:1] * 100), "100 images; at most 16 are needed, each once"),
    (put("self_test.images", lambda paths: paths[:1] * 2), "2 images; at most 16 are needed, each once"),
    (lambda plain: golden(plain).update(bytes=(4 << 20) + 1), r"golden/ada\.png has more than 4 MiB"),
    (put("self_test.images", []), "one output an image, and at least one"),
    (put("self_test.outputs.other", [[0.0] * 16] * 2), "must name exactly the variants"),
    (lambda plain: plain["self_test"]["outputs"].pop("int8"), "must name exactly the variants"),
    (put("self_test.outputs.int8", []), "one output an image, and at least one"),
    (put("self_test.outputs.int8.1", [0.0] * 15), "16 values an image"),
    (put("self_test.outputs.int8.1.0", 128.0), "int8 holds -128 to 127"),
    (put("self_test.outputs.int8.1.0", 0.5), "integers only"),
    (put("self_test.tolerance.int8", -1), "tolerance"),
    (put("self_test.tolerance.int8", 16.5), "self_test.tolerance of int8: above 16 it tests nothing"),
    (put("self_test.tolerance.int8", 1e308), "tolerance"),
    (put("self_test.tolerance.float32", 16.0), "self_test.tolerance of float32: above .* it tests nothing"),
    (put("self_test.tolerance.int8", math.nan), "malformed"),
    (put("self_test.tolerance.int8", math.inf), "malformed"),
    (lambda plain: plain["self_test"]["tolerance"].pop("int8"), "self_test.tolerance must name exactly the variants"),
    (put("rule", "worst"), "rule"),
    (put("variants.0.compiled", "models/none.tflite"), "models/none.tflite is not a member"),
    (put("variants.2.compiled", "models/tiny.onnx"), "or the variant is no .tflite"),
    (put("variants.0.drift.layers", [{"op": "ADD", "name": "sum"}]), "sqnr_db"),
    (put("calibration.0.variant", "coral"), "no such variant"),
    (put("calibration", repeat_first), "a calibration is listed twice"),
    (put("calibration.0.points", []), "need descending target_far"),
    (put("calibration.0.points", lambda points: points[::-1]), "need descending target_far"),
    (put("calibration.0.points.3.threshold", -1.0), "ascending thresholds"),
    (put("calibration.0.points.3.target_far", 0.1), "need descending target_far"),
    (put("calibration.0.points.3.target_far", 0.0), "target_far"),
    (put("calibration.0.points.3.far", 1.5), "far"),
    (put("calibration.0.target_far", 0.001), "has no point"),
    (put("calibration.0.tail.scale", 0.0), "scale"),
    (put("calibration.0.tail.far", 1.0), "far"),
    (put("calibration.0.margin", -0.1), "margin"),
    (put("calibration.0.similarity.scores", [0.0]), "at least two scores"),
    (put("calibration.0.similarity.scores.1", -1.0), "similarity must be ascending"),
    (put("calibration.0.similarity.degrees.1", 0.99), "similarity must be ascending"),
    (put("calibration.0.people", 1), "people"),
    (put("calibration.0.strangers", 10**6), "strangers of"),
    (put("calibration.0.points.0.threshold", -1e30), "threshold"),
    (put("calibration.0.points.0.threshold", -1.01), "a cosine score is -1.001 to 1.001"),
    (put("calibration.0.points.5.threshold", 1.01), "threshold"),
    (put("calibration.0.tail.threshold", -2.0), "a cosine score is"),
    (put("calibration.0.tail.scale", 11.0), "exceeds the range of cosine scores"),
    (put("calibration.0.tail.shape", 1.5), "shape"),
    (put("calibration.0.margin", 2.5), "exceeds the range of cosine scores"),
    (put("calibration.0.similarity.scores.0", -2.0), "a cosine score is"),
    (put("calibration.0.templates", 1001), "templates"),
]


@pytest.mark.parametrize(("edit", "message"), FAULTS)
def test_a_fault_is_refused_and_named(plain, edit, message):
    edit(plain)
    with raises(IntegrityError, match=message, reason="bad_manifest") as caught:
        decode_manifest(json.dumps(plain).encode())
    assert str(caught.value).startswith("manifest.json: ")


def places(value: object, path: str = "") -> list[tuple[str, object]]:
    """Every value that holds no others, by its dotted path."""
    # two of a list stand for all
    pairs = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    found = [place for key, inner in pairs for place in places(inner, f"{path}.{key}" if path else str(key))]
    return found if isinstance(value, dict | list) else [(path, value)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_every_number_and_every_text_has_a_range_of_sense(make_bundle, metric):
    plain = json.loads(encode_manifest(Bundle.open(make_bundle(metric=metric, counts=(1,))).manifest))
    for path, value in places(plain):
        if isinstance(value, bool) or value is None:
            continue
        beyond = ("x" * 2000,) if isinstance(value, str) else (1e308, -1e308) if isinstance(value, float) else (2**64,)
        for number in beyond:
            changed = json.loads(json.dumps(plain))
            put(path, number)(changed)
            try:
                decode_manifest(json.dumps(changed).encode())
            except IntegrityError:
                continue
            pytest.fail(f"{path} may be {str(number)[:10]}")


def test_a_threshold_above_a_distance_of_nothing_is_refused(make_bundle):
    plain = json.loads(encode_manifest(Bundle.open(make_bundle(metric="euclidean")).manifest))
    plain["calibration"][0]["points"][-1]["threshold"] = 0.5
    with pytest.raises(IntegrityError, match="a euclidean score is"):
        decode_manifest(json.dumps(plain).encode())


def test_every_key_is_required_or_has_its_documented_default(plain):
    def strip(place: object, path: tuple) -> list[tuple]:
        found = []
        if isinstance(place, dict):
            for key in place:
                found += [(*path, key), *strip(place[key], (*path, key))]
        elif isinstance(place, list) and place:
            found += strip(place[0], (*path, 0))
        return found

    optional = {"scale", "zero_point", "compiled", "layers", "1e-2"}
    for path in strip(plain, ()):
        copy = json.loads(json.dumps(plain))
        place = copy
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        if path[-1] in optional and "variants" in path:
            continue
        with raises(IntegrityError, reason="bad_manifest"):
            decode_manifest(json.dumps(copy).encode())


def test_a_key_given_twice_is_refused_at_any_depth(manifest):
    encoded = encode_manifest(manifest)
    for once in (b'"name": "tiny"', b'"width": 8'):
        assert once in encoded
        with pytest.raises(IntegrityError, match=r"key '(name|width)' is given twice"):
            decode_manifest(encoded.replace(once, once + b"," + once, 1))


def test_many_keys_are_compared_in_linear_time():
    content = b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b',"7":0}'
    with pytest.raises(IntegrityError, match="key '7' is given twice"):
        decode_manifest(content)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff", b'"\\ud800"', b"[" * 100_000, b'{"format":' + b"9" * 5000 + b"}"]
)
def test_what_is_no_manifest_is_refused(content):
    with raises(IntegrityError, reason="bad_manifest"):
        decode_manifest(content)


def test_an_edited_manifest_is_refused_or_still_consistent(manifest):
    encoded = encode_manifest(manifest)

    @given(st.integers(0, len(encoded) - 1), st.binary(max_size=4), st.integers(0, 4))
    def check(position: int, inserted: bytes, removed: int) -> None:
        try:
            edited = decode_manifest(encoded[:position] + inserted + encoded[position + removed :])
        except IntegrityError:
            return
        assert decode_manifest(encode_manifest(edited)) == edited

    check()


def test_a_fingerprint_binds_the_model_the_input_and_the_embedding(manifest):
    section, embedding = manifest.input, manifest.embedding
    original = fingerprint(DIGEST, section, embedding)
    assert len(original) == 64
    changed = [
        fingerprint("1" + DIGEST[1:], section, embedding),
        fingerprint(DIGEST, msgspec.structs.replace(section, resize="lanczos"), embedding),
        fingerprint(DIGEST, msgspec.structs.replace(section, mean=(127.0,)), embedding),
        fingerprint(DIGEST, section, msgspec.structs.replace(embedding, metric="euclidean")),
        fingerprint(DIGEST, section, msgspec.structs.replace(embedding, size=17)),
    ]
    assert len({original, *changed}) == 6
    assert fingerprint(DIGEST, section, embedding) == original


def test_a_fingerprint_is_the_same_on_every_machine_and_version(section):
    # Written down: should it change, every enrolled template would be refused.
    assert fingerprint(DIGEST, section, EmbeddingSection(size=16, metric="cosine")) == FINGERPRINT


def test_a_fingerprint_does_not_tell_an_integer_from_a_float(section):
    embedding = EmbeddingSection(size=16, metric="cosine")
    whole = msgspec.structs.replace(section, mean=(255,), scale=(-255,), value_range=(0, 1))
    same = msgspec.structs.replace(section, mean=(255.0,), scale=(-255.0,), value_range=(0.0, 1.0))
    assert fingerprint(DIGEST, whole, embedding) == fingerprint(DIGEST, same, embedding)


def test_a_new_calibration_or_provenance_keeps_the_fingerprints(make_bundle):
    first = Bundle.open(make_bundle()).manifest
    second = Bundle.open(make_bundle(name="other", calibrated=False, seed=1)).manifest
    assert [v.fingerprint for v in first.variants] == [v.fingerprint for v in second.variants]
    assert len({v.fingerprint for v in first.variants}) == 3


def test_the_schema_can_be_published():
    schema = msgspec.json.schema(Manifest)
    assert schema["$ref"] == "#/$defs/Manifest"
    assert schema["$defs"]["Manifest"]["additionalProperties"] is False
