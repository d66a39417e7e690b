"""The provisional thresholds of the face bundle: edge_oneshot/faces/provisional.json.

    python -m edge_oneshot.faces.make_provisional faces.oneshot --data olivetti.zip

The people are those of AT&T's Database of Faces (40, ten photos each); only their numbers are kept.
"""

import argparse
import sys
from pathlib import Path

import msgspec

from edge_oneshot.data.loading import load_data
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.judging.calibration import CalibrationSettings, calibrate

DATA = "provisional: 40 people of AT&T's Database of Faces, grey, one room; calibrate with people of your own"
OUT = Path(__file__).with_name("provisional.json")


def main() -> int:
    """Measure and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot", help="with int8 and float32")
    parser.add_argument("--data", required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoders = [Encoder.open(bundle, name) for name in ("int8", "float32")]
    people = load_data(arguments.data, encoders[0].input, faces=encoders[0].faces)
    settings = CalibrationSettings(DATA, provisional=True)
    measured = [one for encoder in encoders for one in calibrate(encoder, people.labelled(), settings)]
    write_atomically(arguments.out, msgspec.json.format(msgspec.json.encode(measured), indent=1) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
