"""`python -m edge_oneshot` is the program `edge-oneshot`."""

import sys

from edge_oneshot.cli import main

if __name__ == "__main__":
    sys.exit(main())
