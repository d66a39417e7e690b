"""A whole bundle of real but tiny models, and images of a few people, without TensorFlow."""

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_oneshot_device.bundle.codec import encode_manifest
from edge_oneshot_device.bundle.drift_section import Change, Drift
from edge_oneshot_device.bundle.manifest import (
    FORMAT,
    MANIFEST_NAME,
    Calibration,
    EmbeddingSection,
    InputSection,
    Licence,
    Manifest,
    Member,
    OperatingPoint,
    Provenance,
    SelfTest,
    SimilarityMap,
    Tail,
    Variant,
    fingerprint,
)
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME, Signature, encode_signature, signed_bytes
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import load_golden
from edge_oneshot_device.encoding.runtimes import open_model
from tests import MODELS
from tests.samples.pictures import members, png

MakeBundle = Callable[..., Path]
"""What the fixture `make_bundle` gives."""
People = dict[str, tuple[bytes, ...]]
"""Encoded images, by name."""
FILES = {
    "int8": ("tflite", "tiny-int8.tflite"),
    "float32": ("tflite", "tiny-float32.tflite"),
    "onnx-float32": ("onnx", "tiny.onnx"),
}
SIZE = 16
# Cosine thresholds by target FAR; the impostors among `people` score below 0.2, the genuine above 0.97.
POINTS = ((0.5, 0.0), (0.2, 0.3), (0.1, 0.45), (0.05, 0.6), (0.02, 0.7), (0.01, 0.8))
SIMILARITY = ((-1.0, 0.0), (0.0, 0.02), (0.5, 0.2), (0.8, 0.9), (1.0, 1.0))
# The distance at which the tiny net puts different images, for the euclidean metric.
FAR_APART = 80.0
# Drawn so that no two people look alike to the tiny net.
PEOPLE_SEED = 303


def zip_stored(files: dict[str, bytes]) -> bytes:
    """A bundle's zip of these members, whatever they are."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return content.getvalue()


NO_CHANGE = Change(reference=0.9, variant=0.9, difference=0.0, interval=(-0.01, 0.01))
DRIFT = Drift(
    images=10, people=5, cosine_mean=1.0, cosine_p01=0.999, cosine_min=0.999, neighbour_changed=0.0, eer=NO_CHANGE,
    tpr_at_fpr={"1e-2": NO_CHANGE}, one_shot=NO_CHANGE, ways=5,
)  # fmt: skip


def hex_of(key: Ed25519PrivateKey) -> str:
    """A public key as manifests and settings name it."""
    return key.public_key().public_bytes_raw().hex()


def sign_bundle(path: Path, key: Ed25519PrivateKey) -> Path:
    """Signs a bundle where it lies; a signature that it has is replaced."""
    files = members(path)
    files.pop(SIGNATURE_NAME, None)
    text = files.pop(MANIFEST_NAME)
    made = Signature(hex_of(key), key.sign(signed_bytes(text)).hex())
    path.write_bytes(zip_stored({MANIFEST_NAME: text, SIGNATURE_NAME: encode_signature(made), **files}))
    return path


def tiny_section() -> InputSection:
    """The tiny models' input: 8 x 8, grey, -1..1."""
    return InputSection(
        height=8, width=8, colour="grey", resize="box", mean=(127.5,), scale=(127.5,), value_range=(-1.0, 1.0),
        min_contrast=16,
    )  # fmt: skip


def draw_people() -> dict[str, tuple[bytes, ...]]:
    """Seven noisy PNG images of 32 x 32 of each of five patterns; "stranger" is for nobody to enrol."""
    names = ("ada", "alan", "edsger", "grace", "stranger")
    rng = np.random.default_rng(PEOPLE_SEED)
    patterns = [np.kron(rng.integers(0, 256, (8, 8)), np.ones((4, 4))) for _ in names]
    return {
        name: tuple(png(np.clip(pattern + rng.normal(0, 25, pattern.shape), 0, 255).astype(np.uint8)) for _ in range(7))
        for name, pattern in zip(names, patterns, strict=True)
    }


def bundle_maker(folder: Path, people: dict[str, tuple[bytes, ...]], section: InputSection) -> Callable[..., Path]:
    """What the fixture `make_bundle` is; it writes bundles into `folder`."""

    def make(
        *,
        name: str = "tiny",
        metric: str = "cosine",
        variants: tuple[str, ...] = ("int8", "float32", "onnx-float32"),
        calibrated: bool = True,
        rule: str = "best",
        counts: tuple[int, ...] = (1, 3, 5),
        min_contrast: int = 16,
        seed: int = 0,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> Path:
        input_section = msgspec.structs.replace(section, min_contrast=min_contrast)
        embedding = EmbeddingSection(size=SIZE, metric=metric)
        goldens = {f"golden/{person}.png": people[person][6] for person in ("ada", "alan")}
        models = {f"models/{FILES[v][1]}": (MODELS / FILES[v][1]).read_bytes() for v in variants}
        described, outputs = [], {}
        for variant in variants:
            described.append(_describe(variant, models, input_section, embedding))
            outputs[variant] = _golden_outputs(described[-1], models, goldens, input_section, embedding)
        manifest = Manifest(
            format=FORMAT,
            name=name,
            created="2026-01-01T00:00:00Z",
            members=tuple(
                Member(path=path, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
                for path, data in (models | goldens).items()
            ),
            input=input_section,
            embedding=embedding,
            variants=tuple(described),
            rule=rule,
            calibration=tuple(_calibration(v, n, metric, rule) for v in variants for n in counts) if calibrated else (),
            self_test=SelfTest(
                images=tuple(goldens), outputs=outputs, tolerance={v: 2.0 if v == "int8" else 1e-3 for v in variants}
            ),
            provenance=Provenance(
                data="patterns drawn from a seed",
                seed=seed,
                images_seen=0,
                trained_on=(),
                held_out=(),
                versions={},
                commit=None,
                licences=(Licence(what="weights", licence="Apache-2.0", source="make_tiny.py"),),
            ),
        )
        encoded = encode_manifest(manifest)
        if change is not None:
            plain = json.loads(encoded)
            change(plain)
            encoded = json.dumps(plain).encode()
        path = folder / f"{name}.oneshot"
        path.write_bytes(zip_stored({MANIFEST_NAME: encoded, **models, **goldens}))
        return path

    return make


def _describe(name: str, models: dict[str, bytes], section: InputSection, embedding: EmbeddingSection) -> Variant:
    format_, file = FILES[name]
    content = models[f"models/{file}"]
    model = open_model(format_, content)
    return Variant(
        name=name,
        format=format_,
        file=f"models/{file}",
        bytes=len(content),
        input=model.input,
        output=model.output,
        ops=("CONV_2D", "RESHAPE", "FULLY_CONNECTED") if format_ == "tflite" else ("Conv", "Reshape", "MatMul"),
        runtimes=("litert", "tflite-runtime") if format_ == "tflite" else ("onnxruntime",),
        drift=DRIFT,
        fingerprint=fingerprint(hashlib.sha256(content).hexdigest(), section, embedding),
    )


def _golden_outputs(
    variant: Variant,
    models: dict[str, bytes],
    goldens: dict[str, bytes],
    section: InputSection,
    embedding: EmbeddingSection,
) -> tuple[tuple[float, ...], ...]:
    model = open_model(variant.format, models[variant.file])
    encoder = Encoder(model, section, embedding, variant=variant.name, fingerprint=variant.fingerprint)
    return tuple(tuple(map(float, encoder.raw(load_golden(image, section)))) for image in goldens.values())


def _calibration(variant: str, templates: int, metric: str, rule: str) -> Calibration:
    """Plausible numbers; the best of more templates scores higher, so its thresholds do too."""

    def score(cosine: float) -> float:
        raised = 1.0 - (1.0 - cosine) * (1.0 - 0.02 * (templates - 1))
        return raised if metric == "cosine" else -FAR_APART * math.sqrt(1.0 - raised)

    return Calibration(
        variant=variant,
        rule=rule,
        templates=templates,
        points=tuple(
            OperatingPoint(target_far=far, threshold=score(t), far=far / 2, far_upper_95=far, frr=0.001)
            for far, t in POINTS
        ),
        target_far=0.01,
        tail=Tail(threshold=score(0.6), far=0.05, scale=(score(0.8) - score(0.6)) / 2, shape=-0.2),
        margin=score(0.8) - score(0.75),
        similarity=SimilarityMap(
            scores=tuple(score(s) for s, _ in SIMILARITY), degrees=tuple(degree for _, degree in SIMILARITY)
        ),
        genuine=300,
        impostor=3000,
        people=80,
        failures_to_enrol=0,
        failures_to_acquire=0,
        data="made up for tests",
        provisional=False,
    )
