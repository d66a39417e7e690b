"""The manifest as JSON, parsed strictly.

An unknown key, a missing key, a repeated key, NaN, a newer format or a contradiction is an error that names its place.
"""

import json
import math
from datetime import datetime
from typing import Any

import msgspec

from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.drift_section import Drift
from edge_oneshot_device.bundle.face_section import FINDER_POINTS, FaceSection
from edge_oneshot_device.bundle.fields import MIN_SCALE
from edge_oneshot_device.bundle.manifest import (
    FORMAT,
    MANIFEST_NAME,
    Calibration,
    InputSection,
    Manifest,
    Member,
    Metric,
    SelfTest,
    Variant,
    fingerprint,
    value_range,
)
from edge_oneshot_device.bundle.runtime_kinds import RUNTIME_KINDS
from edge_oneshot_device.errors import IntegrityError

_INTEGERS = {"int8": (-128, 127), "uint8": (0, 255), "float32": (0, 0)}
_MIN_TENSOR_SCALE = 1e-12
_MAX_TOLERANCE_STEPS = 16
_MAX_TOLERANCE_SHARE = 0.05  # of the largest value of a float output
# Smallest score, largest score, largest scale of the tail and largest margin, each with an allowance for rounding.
_SCORES = {"cosine": (-1.001, 1.001, 10.0, 2.002), "euclidean": (-1e9, 0.001, 1e9, 1e9)}
_MAX_SECONDS = 10
_MAX_GOLDEN_IMAGES = 16
_MAX_GOLDEN_BYTES = 4 << 20


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as indented JSON in UTF-8; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1)


def decode_manifest(content: bytes) -> Manifest:
    """Parse and check a manifest.

    Args:
        content: manifest.json.

    Raises:
        IntegrityError: ``bad_manifest``: it is no JSON, has an unknown, missing or repeated key, a value out of range
            or NaN, is of a newer format, or contradicts itself.
    """
    try:
        plain = json.loads(content, object_pairs_hook=_unique_keys)
        if isinstance(plain, dict) and isinstance(plain.get("format"), int) and plain["format"] > FORMAT:
            raise ValueError(f"format {plain['format']} is newer than {FORMAT}, the newest this version reads")
        manifest = msgspec.json.decode(content, type=Manifest)
        _check_consistent(manifest)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise IntegrityError(f"manifest.json: {error}", reason="bad_manifest") from error
    return manifest


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name, value in pairs:
        if name in keys:
            raise ValueError(f"key {name!r} is given twice")
        keys[name] = value
    return keys


def _check_consistent(manifest: Manifest) -> None:
    datetime.fromisoformat(manifest.created)
    _check_input(manifest.input)
    if not manifest.variants:
        raise ValueError("no variant")
    members = {member.path: member for member in manifest.members}
    if manifest.input.face is not None:
        _check_face(manifest.input, manifest.input.face, members)
    if manifest.input.audio is not None:
        _check_audio(manifest.input, manifest.input.audio)
    if len(members) != len(manifest.members):
        raise ValueError("a member is listed twice")
    if MANIFEST_NAME in members:
        raise ValueError(f"{MANIFEST_NAME} cannot be a member of itself")
    names = [variant.name for variant in manifest.variants]
    if len(set(names)) != len(names):
        raise ValueError("a variant is listed twice")
    for variant in manifest.variants:
        _check_variant(variant, manifest, members)
    _check_golden(manifest.self_test.images, members)
    if set(manifest.self_test.outputs) != set(names) or set(manifest.self_test.tolerance) != set(names):
        raise ValueError("self_test.outputs and self_test.tolerance must name exactly the variants")
    for variant in manifest.variants:
        _check_self_test(manifest.self_test, variant)
    for calibration in manifest.calibration:
        _check_calibration(calibration, names, manifest.embedding.metric)
    keys = [(c.variant, c.rule, c.templates) for c in manifest.calibration]
    if len(set(keys)) != len(keys):
        raise ValueError("a calibration is listed twice")


def _check_golden(paths: tuple[str, ...], members: dict[str, Member]) -> None:
    """Check the images of the self-test: their number and size, because each start embeds all of them."""
    if len(paths) > _MAX_GOLDEN_IMAGES or len(set(paths)) != len(paths):
        raise ValueError(f"self_test.images: {len(paths)} images; at most {_MAX_GOLDEN_IMAGES} are needed, each once")
    for path in paths:
        if path not in members:
            raise ValueError(f"self-test image {path} is not a member")
        if members[path].bytes > _MAX_GOLDEN_BYTES:
            raise ValueError(f"self-test image {path} has more than {_MAX_GOLDEN_BYTES >> 20} MiB")


def _check_self_test(test: SelfTest, variant: Variant) -> None:
    where, outputs, size = f"self_test.outputs of {variant.name}", test.outputs[variant.name], variant.output.shape[-1]
    if not outputs or len(outputs) != len(test.images):
        raise ValueError(f"{where}: one output an image, and at least one, is needed")
    if any(len(output) != size for output in outputs):
        raise ValueError(f"{where}: {size} values an image are needed")
    least, most = min(map(min, outputs)), max(map(max, outputs))
    allowed = _MAX_TOLERANCE_SHARE * max(-least, most)
    if variant.output.dtype != "float32":
        low, high = _INTEGERS[variant.output.dtype]
        if not low <= least <= most <= high or not all(value.is_integer() for output in outputs for value in output):
            raise ValueError(f"{where}: {variant.output.dtype} holds {low} to {high}, and integers only")
        allowed = _MAX_TOLERANCE_STEPS
    if test.tolerance[variant.name] > allowed:
        raise ValueError(f"self_test.tolerance of {variant.name}: above {allowed:g} it tests nothing")


def _check_input(section: InputSection) -> None:
    if len(section.mean) != section.channels or len(section.scale) != section.channels:
        raise ValueError(f"input.mean and input.scale need {section.channels} values each")
    if any(abs(value) < MIN_SCALE for value in section.scale):
        raise ValueError(f"input.scale {section.scale}: at least {MIN_SCALE:g} to either side of 0 is needed")
    for stated, computed in zip(section.value_range, value_range(section.mean, section.scale), strict=True):
        if not math.isclose(stated, computed, rel_tol=1e-5, abs_tol=1e-3):
            raise ValueError(f"input.value_range {section.value_range}: {stated} is {computed} by mean and scale")


def _check_face(section: InputSection, face: FaceSection, members: dict[str, Member]) -> None:
    if section.colour != "rgb" or section.framing != "whole":
        raise ValueError("input.face needs an input of rgb that is framed whole")
    for model in face.models:
        member = members.get(model.file)
        if member is None or member.sha256 != model.sha256:
            raise ValueError(f"input.face: {model.file} with the SHA-256 {model.sha256[:12]}... is not a member")
    kinds = [model.kind for model in face.models]
    former = len(kinds) == 3  # BlazeFace twice
    if kinds[-1] != "facemesh" or "facemesh" in kinds[:-1] or ("yunet" in kinds) == former:
        raise ValueError(f"input.face: {', '.join(kinds)} cannot be its nets: yunet as finder, facemesh as mesh")
    points = [place.point for place in face.template]
    if not former and max(points) >= FINDER_POINTS:
        raise ValueError(f"input.face.template: point {max(points)}; yunet's are 0 to {FINDER_POINTS - 1}")
    if len(set(points)) != len(points) or len({(place.x, place.y) for place in face.template}) < 2:
        raise ValueError("input.face.template: a point is named twice, or all lie in one place")


def _check_audio(section: InputSection, audio: AudioSection) -> None:
    if section.colour != "grey" or section.framing != "whole" or section.face is not None:
        raise ValueError("input.audio needs an input of grey that is framed whole, without input.face")
    if not audio.low_hz + audio.sample_rate / audio.window <= audio.high_hz <= audio.sample_rate / 2:
        raise ValueError(f"input.audio: bands from {audio.low_hz:g} to {audio.high_hz:g} Hz of {audio.sample_rate}")
    if audio.samples(section.width) > _MAX_SECONDS * audio.sample_rate:
        raise ValueError(f"input.audio: {section.width} frames are longer than {_MAX_SECONDS} s")


def _check_variant(variant: Variant, manifest: Manifest, members: dict[str, Member]) -> None:
    where = f"variant {variant.name}"
    member = members.get(variant.file)
    if member is None:
        raise ValueError(f"{where}: its file {variant.file} is not a member")
    if member.bytes != variant.bytes:
        raise ValueError(f"{where}: {variant.bytes} bytes, but its member has {member.bytes}")
    if variant.fingerprint != fingerprint(member.sha256, manifest.input, manifest.embedding):
        raise ValueError(f"{where}: its fingerprint is not that of its file, input and embedding")
    if variant.input.shape != (1, *manifest.input.shape):
        raise ValueError(f"{where}: input shape {variant.input.shape}, expected {(1, *manifest.input.shape)}")
    if variant.output.shape != (1, manifest.embedding.size):
        raise ValueError(f"{where}: output shape {variant.output.shape}, expected {(1, manifest.embedding.size)}")
    for tensor in (variant.input, variant.output):
        if (tensor.dtype == "float32") != (tensor.scale == 0.0):
            raise ValueError(f"{where}: dtype {tensor.dtype} with scale {tensor.scale}")
        if 0.0 < tensor.scale < _MIN_TENSOR_SCALE:
            raise ValueError(f"{where}: scale {tensor.scale}, at least {_MIN_TENSOR_SCALE:g} is needed")
        if not _INTEGERS[tensor.dtype][0] <= tensor.zero_point <= _INTEGERS[tensor.dtype][1]:
            raise ValueError(f"{where}: dtype {tensor.dtype} with zero point {tensor.zero_point}")
    if variant.compiled is not None and (variant.compiled not in members or variant.format != "tflite"):
        raise ValueError(f"{where}: its compiled file {variant.compiled} is not a member, or the variant is no .tflite")
    if variant.drift is not None:
        _check_drift(variant.drift, where)
    if not variant.runtimes:
        raise ValueError(f"{where}: no runtime")
    for runtime in variant.runtimes:
        if RUNTIME_KINDS[runtime].format != variant.format:
            raise ValueError(f"{where}: format {variant.format} with runtime {runtime}")


def _check_drift(drift: Drift, where: str) -> None:
    for change in (drift.eer, drift.one_shot, *drift.tpr_at_fpr.values()):
        apart = change.variant - change.reference - change.difference
        if abs(apart) > 1e-6 or not change.interval[0] <= change.difference <= change.interval[1]:
            raise ValueError(f"{where}: drift.difference {change.difference} contradicts its rates or interval")


def _check_calibration(calibration: Calibration, names: list[str], metric: Metric) -> None:
    where = f"calibration of {calibration.variant}, {calibration.rule} of {calibration.templates}"
    if calibration.variant not in names:
        raise ValueError(f"{where}: no such variant")
    targets = [point.target_far for point in calibration.points]
    thresholds = [point.threshold for point in calibration.points]
    if not targets or targets != sorted(set(targets), reverse=True) or thresholds != sorted(thresholds):
        raise ValueError(f"{where}: points need descending target_far and ascending thresholds")
    if calibration.target_far not in targets:
        raise ValueError(f"{where}: target_far {calibration.target_far} has no point")
    if calibration.strangers > calibration.people - 2:
        raise ValueError(f"{where}: {calibration.strangers} strangers of {calibration.people} people leave no two")
    tail, (least, most, tail_scale, margin) = calibration.tail, _SCORES[metric]
    if not all(least <= score <= most for score in (*thresholds, tail.threshold, *calibration.similarity.scores)):
        raise ValueError(f"{where}: a {metric} score is {least:g} to {most:g}; a threshold or the tail lies outside")
    if tail.scale > tail_scale or calibration.margin > margin:
        raise ValueError(f"{where}: the tail's scale or the margin exceeds the range of {metric} scores")
    scores, degrees = calibration.similarity.scores, calibration.similarity.degrees
    if len(scores) < 2 or len(scores) != len(degrees):
        raise ValueError(f"{where}: similarity needs at least two scores and as many degrees")
    if list(scores) != sorted(set(scores)) or list(degrees) != sorted(degrees):
        raise ValueError(f"{where}: similarity must be ascending")
