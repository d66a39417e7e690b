"""`python -m edge_oneshot_device` is the program `edge-oneshot-device`."""

import sys

from edge_oneshot_device.cli import main

if __name__ == "__main__":
    sys.exit(main())
