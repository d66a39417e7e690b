"""Measure each stage of an identification, from the image file or recording to the synced row of the audit trail."""

import tempfile
import time
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.preprocessing import load_photo, load_timed, require_content
from edge_oneshot_device.faces.finding import PHOTO_SIDE
from edge_oneshot_device.gallery import audit
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from edge_oneshot_device.matching.search import Index

PEOPLE: Final = 1000
"""Number of people in the gallery that is searched, with one template each."""

_ROW: Final = {"accepted": False, "reason": "below_threshold", "score": 0.5, "threshold": 0.75, "variant": "int8"}


class StageTimes(msgspec.Struct, frozen=True):
    """The times of one stage in milliseconds.

    Attributes:
        name: ``decode``, ``preprocess`` (for faces: detection and alignment; for recordings:
            the spectrogram), ``embed``, ``match``, ``audit``, or
            ``total``, the sum of the stages in each run.
        median_ms, p95_ms: Median and 95th percentile.
        samples_ms: Time of each run, in order.
    """

    name: str
    median_ms: float
    p95_ms: float
    samples_ms: list[float]


def time_stages(encoder: Encoder, manifest: Manifest, image: bytes, folder: Path, runs: int) -> list[StageTimes]:
    """Run an image through all stages repeatedly.

    Args:
        encoder: The encoder of the bundle.
        manifest: The manifest of the bundle.
        image: The bytes of an image file; for an encoder of faces a photo of a face, for one of speech a recording.
        folder: A folder on the disk to measure; a temporary gallery is written in it.
        runs: Number of timed runs, at least 1; two more run before them for warm-up.

    Returns:
        One entry for each stage, and one for the total.

    Raises:
        InputError: The file cannot be read, or shows no face.
        MachineError: The disk or the runtime failed.
    """
    rng, size = np.random.default_rng(0), encoder.embedding.size
    index = Index(size, encoder.embedding.metric, manifest.rule)
    templates = rng.standard_normal((PEOPLE, size)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    index.load([(np.arange(PEOPLE), templates)])
    with tempfile.TemporaryDirectory(prefix=".edge-oneshot-bench-", dir=folder) as temporary:
        key = KeySource(Path(temporary) / "key")
        create_key(Path(temporary) / "key")
        with Gallery.open(Path(temporary) / "gallery.db", encoder.fingerprint, size, key, create=True) as gallery:
            times = [_run(encoder, index, gallery, image) for _ in range(runs + 2)][2:]
    columns = np.diff(np.array(times), axis=1).T / 1e6
    names = ("decode", "preprocess", "embed", "match", "audit", "total")
    return [_stage(name, samples) for name, samples in zip(names, [*columns, columns.sum(axis=0)], strict=True)]


def _run(encoder: Encoder, index: Index, gallery: Gallery, image: bytes) -> list[int]:
    """The time at which the first stage began, and at which each stage ended, in nanoseconds."""
    now = time.perf_counter_ns
    at = [now()]
    if encoder.faces is None:
        pixels, decoded_at = load_timed(image, encoder.input)
        at.append(decoded_at)
    else:
        photo = load_photo(image, PHOTO_SIDE)
        at.append(now())
        pixels = encoder.faces.chip(photo)
    require_content(pixels, encoder.input)
    at.append(now())
    probe = encoder.embed(pixels)
    at.append(now())
    index.search(probe)
    at.append(now())
    with gallery.writing() as transaction:
        audit.append(transaction, "identify", None, _ROW)
    at.append(now())
    return at


def _stage(name: str, samples: Any) -> StageTimes:
    median, p95 = np.percentile(samples, (50, 95))
    return StageTimes(name, float(median), float(p95), samples.tolist())
