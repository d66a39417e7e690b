"""The provisional thresholds of the face bundle: edge_oneshot/faces/provisional.json.

    edge-oneshot export --pretrained faces --variants dynamic,int8,float32 --out faces.oneshot
    python -m edge_oneshot.faces.make_provisional faces.oneshot --data lfw-half.zip

The people are half of those of Labeled Faces in the Wild; only their numbers are kept.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from edge_oneshot.data.loading import load_data
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate

DATA = "provisional: people of Labeled Faces in the Wild; calibrate with people of your own"
VARIANTS = ("dynamic", "int8", "float32")
OUT = Path(__file__).with_name("provisional.json")


def main() -> int:
    """Measure and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot", help=f"with {', '.join(VARIANTS)}")
    parser.add_argument("--data", required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoders = [Encoder.open(bundle, name) for name in VARIANTS]
    people = load_data(arguments.data, encoders[0].input, faces=encoders[0].faces)
    settings = CalibrationSettings(DATA, provisional=True)
    measured = [one for encoder in encoders for one in calibrate(encoder, people.labelled(), settings)]
    write_atomically(arguments.out, msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
