"""The provisional thresholds of the face bundle: edge_oneshot/faces/provisional.json.

    edge-oneshot export --pretrained faces --variants dynamic,float32 --out faces.oneshot
    python -m edge_oneshot.faces.make_provisional faces.oneshot --data lfw-half.zip

The people are half of those of Labeled Faces in the Wild; only their numbers are kept, with six digits. A photo with
bystanders counts by the face in its middle, since they were not at a door; all others that the quality gate refuses are
failures to acquire.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import load_data
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.manifest import Calibration
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate
from edge_oneshot_export.judging.protocols import LabelledImages

DATA: Final = (
    "provisional: half of Labeled Faces in the Wild, {:,} people, web photos of public figures; calibrate with "
    "people of your own"
)
TARGET_FAR: Final = 1e-4
VARIANTS: Final = ("dynamic", "float32")
OUT: Final = Path(__file__).with_name("provisional.json")


def make_provisional(encoders: Iterable[Encoder], people: LabelledImages) -> list[Calibration]:
    """The thresholds of each variant.

    Args:
        encoders: The variants.
        people: Their images, see `with_bystanders`.
    """
    settings = CalibrationSettings(DATA.format(len(people.names)), target_far=TARGET_FAR, provisional=True)
    return [one for encoder in encoders for one in calibrate(encoder, people, settings)]


def with_bystanders(everybody: Dataset) -> LabelledImages:
    """People whose photos are black where the gate refuses them, but for those with several faces.

    Args:
        everybody: Loaded without the gate.
    """
    faults = tuple(None if fault == "several_faces" else fault for fault in everybody.faults or ())
    refused = np.array([fault is not None for fault in faults], bool)
    images = everybody.images.copy()
    images[refused] = 0
    people = everybody.labelled()
    return LabelledImages(images, people.labels, people.names, faults)


def encoded(calibrations: list[Calibration]) -> bytes:
    """As JSON, a calibration a line, each number with six digits."""
    lines = (msgspec.json.encode(_rounded(msgspec.to_builtins(one))).decode() for one in calibrations)
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list | tuple) else value


def main() -> int:
    """Measure and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot", help=f"with {', '.join(VARIANTS)}")
    parser.add_argument("--data", required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoders = [Encoder.open(bundle, name) for name in VARIANTS]
    everybody = load_data(arguments.data, encoders[0].input, faces=encoders[0].faces, gate=False)
    write_atomically(arguments.out, encoded(make_provisional(encoders, with_bystanders(everybody))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
