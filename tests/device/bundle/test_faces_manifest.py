"""The face part of a manifest: its nets are members, and it is in the fingerprints."""

import hashlib
import json

import msgspec
import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.codec import decode_manifest, encode_manifest
from edge_oneshot_device.bundle.face_section import FaceLimits, FaceModel, FacePoint, FaceSection
from edge_oneshot_device.bundle.manifest import EmbeddingSection, InputSection, fingerprint
from edge_oneshot_device.errors import IntegrityError
from tests.raising import raises

NETS = {f"faces/{name}.tflite": name.encode() for name in ("finder", "closer", "mesh")}


def net(name, kind):
    digest = hashlib.sha256(name.encode()).hexdigest()
    return FaceModel(file=f"faces/{name}.tflite", sha256=digest, kind=kind, size=128, min_score=0.5)


FACE = FaceSection(
    finder=net("finder", "yunet"),
    mesh=net("mesh", "facemesh"),
    max_overlap=0.3,
    template=(FacePoint(point=0, x=0.3, y=0.3), FacePoint(point=1, x=0.7, y=0.3)),
    min_eye_distance=20.0,
)
FORMER = FaceSection(
    finder=net("finder", "blazeface-full"),
    closer=net("closer", "blazeface-short"),
    mesh=net("mesh", "facemesh"),
    max_overlap=0.3,
    template=(FacePoint(point=33, x=0.3, y=0.3), FacePoint(point=263, x=0.7, y=0.3)),
    min_eye_distance=20.0,
)
LIMITS = FaceLimits(max_outside=0.25, max_yaw=25.0, max_pitch=20.0, min_light=40.0, max_glare=0.3, max_blur=0.7)


@pytest.fixture
def with_face(make_bundle):
    """A manifest in plain data with a face part, its fingerprints made anew; the edit comes before them."""

    def make(edit=None, face=FACE):
        plain = json.loads(encode_manifest(Bundle.open(make_bundle(calibrated=False, variants=("float32",))).manifest))
        plain["members"] += [
            {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in NETS.items()
        ]
        section = plain["input"]
        section.update(colour="rgb", mean=section["mean"] * 3, scale=section["scale"] * 3)
        section["face"] = json.loads(msgspec.json.encode(face))
        typed = msgspec.convert(section, InputSection), msgspec.convert(plain["embedding"], EmbeddingSection)
        digests = {member["path"]: member["sha256"] for member in plain["members"]}
        for variant in plain["variants"]:
            variant["input"]["shape"][3] = 3
            variant["fingerprint"] = fingerprint(digests[variant["file"]], *typed)
        if edit is not None:
            edit(plain)
        return json.dumps(plain).encode()

    return make


def test_a_face_part_is_read(with_face):
    assert decode_manifest(with_face()).input.face == FACE


def test_the_face_part_of_an_earlier_release_is_read_as_it_was(with_face):
    assert decode_manifest(with_face(face=FORMER)).input.face == FORMER
    assert list(json.loads(msgspec.json.encode(FORMER)))[:3] == ["finder", "closer", "mesh"]  # as fingerprints have it


def test_without_one_nothing_is_said_of_it(make_bundle):
    manifest = Bundle.open(make_bundle()).manifest
    assert manifest.input.face is None
    assert "face" not in json.loads(encode_manifest(manifest))["input"]


def test_limits_are_read_and_without_them_nothing_is_said_of_them(with_face):
    limits = json.loads(msgspec.json.encode(LIMITS))
    limited = msgspec.structs.replace(FACE, limits=LIMITS)
    assert msgspec.json.decode(msgspec.json.encode(limited), type=FaceSection) == limited
    assert "limits" not in json.loads(with_face())["input"]["face"]
    with pytest.raises(IntegrityError, match="max_yaw"):
        decode_manifest(with_face(lambda plain: plain["input"]["face"].update(limits=limits | {"max_yaw": 0.0})))


def test_another_detector_is_another_fingerprint(section):
    other = msgspec.structs.replace(FACE, finder=msgspec.structs.replace(FACE.finder, sha256="0" * 64))
    embedding = EmbeddingSection(size=4, metric="euclidean")
    found = {
        fingerprint("1" * 64, msgspec.structs.replace(section, face=face), embedding) for face in (FACE, other, None)
    }
    assert len(found) == 3


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda plain: plain["input"].update(framing="ink"), "framed whole"),
        (lambda plain: plain["members"].pop(), "faces/mesh.tflite with the SHA-256"),
        (lambda plain: plain["input"]["face"]["finder"].update(sha256="0" * 64), "000000000000... is not a member"),
        (lambda plain: plain["input"]["face"]["mesh"].update(kind="yunet"), "yunet, yunet cannot be its nets"),
        (lambda plain: plain["input"]["face"]["finder"].update(kind="facemesh"), "cannot be its nets"),
        (lambda plain: plain["input"]["face"]["finder"].update(kind="blazeface-full"), "cannot be its nets"),
        (lambda plain: plain["input"]["face"].update(closer=plain["input"]["face"]["finder"]), "cannot be its nets"),
        (lambda plain: plain["input"]["face"]["template"][0].update(point=1), "a point is named twice"),
        (lambda plain: plain["input"]["face"]["template"][0].update(x=0.7), "all lie in one place"),
        (lambda plain: plain["input"]["face"]["template"].pop(), "length >= 2"),
        (lambda plain: plain["input"]["face"]["template"][0].update(point=468), "<= 467"),
        (lambda plain: plain["input"]["face"]["template"][0].update(point=5), "point 5; yunet's are 0 to 4"),
        (lambda plain: plain["input"]["face"].update(surprise=1), "surprise"),
    ],
)
def test_one_that_contradicts_itself_is_refused(with_face, edit, words):
    with raises(IntegrityError, match=words, reason="bad_manifest"):
        decode_manifest(with_face(edit))
