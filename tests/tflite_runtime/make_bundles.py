"""Bundles of the shipped nets, and what LiteRT answers, for an environment that has neither TensorFlow nor LiteRT.

Usage: python -m tests.tflite_runtime.make_bundles OUT

Writes OUT/NET.oneshot and OUT/NET.npz: uint8 images (n, h, w, c), and for each variant its raw outputs (n, size) on
LiteRT's default kernels (XNNPACK) as VARIANT-xnnpack and on its plain ones as VARIANT-plain.
"""

import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edge_oneshot.data.loading import load_data
from edge_oneshot.pretrained import pretrained_run
from edge_oneshot_device import Bundle
from edge_oneshot_device.encoder import Encoder, load_encoder
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_export.formats.tflite import PlainModel
from edge_oneshot_export.judging.protocols import LabelledImages
from edge_oneshot_export.keras_export import export
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.packing.packer import BundleSpec
from tests.real_data import OMNIGLOT

VARIANTS = ("float32", "float16", "dynamic", "int8", "coral")
REPRESENTATIVE = 400
IDENTITIES, IMAGES_EACH = 40, 5
IMAGES = 400


def make(net: str, out: Path) -> None:
    """A bundle, the models as they ship, with a small calibration, since this is about the answers of runtimes."""
    record = pretrained_run(net).record
    if (OMNIGLOT / "images_background.zip").exists():
        data = load_data(record.settings.data, record.input, data_dir=OMNIGLOT)
        trained, held_out = data.only(record.trained_on), data.only(record.held_out)
    else:
        trained = held_out = load_data("glyphs", record.input)
    chosen = np.random.default_rng(record.settings.seed).permutation(len(trained.labels))[:REPRESENTATIVE]
    few = np.concatenate([np.flatnonzero(held_out.labels == label)[:IMAGES_EACH] for label in range(IDENTITIES)])
    export(
        pretrained_run(net).encoder(),
        out / f"{net}.oneshot",
        BundleSpec(record.input),
        images=trained.images[chosen],
        calibration=LabelledImages(held_out.images[few], held_out.labels[few], held_out.identities[:IDENTITIES]),
        options=ExportOptions(variants=VARIANTS),
    )
    bundle = Bundle.open(out / f"{net}.oneshot")
    images = held_out.images[np.random.default_rng(0).permutation(len(held_out.images))[:IMAGES]]
    answers = {}
    for variant in bundle.manifest.variants:
        content = bundle.read(variant.file)
        plain = Encoder(
            PlainModel(content, open_model("tflite", content)),
            record.input,
            bundle.manifest.embedding,
            variant=variant.name,
            fingerprint=variant.fingerprint,
        )
        for kernels, encoder in (("xnnpack", load_encoder(bundle, variant.name)), ("plain", plain)):
            answers[f"{variant.name}-{kernels}"] = np.stack([encoder.raw(image) for image in images])
    np.savez_compressed(out / f"{net}.npz", images=images, **answers)


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    for name in ("tiny", "base"):
        make(name, Path(sys.argv[1]))
