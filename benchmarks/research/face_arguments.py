"""The command line and the file of results that the measurements of faces share."""

import argparse
from pathlib import Path

import msgspec

from edge_oneshot_device.files import write_atomically


def face_parser(description: str | None, *, kept: bool = False, seed: str | None = None) -> argparse.ArgumentParser:
    """A parser of the bundle, ``--data`` and ``--out``.

    Args:
        description: The script's docstring.
        kept: Ask for the folder of `benchmarks.research.face_looks`, too.
        seed: What is random, in words; None takes no seed.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="LFW or its half, a zip")
    if kept:
        parser.add_argument("--kept", type=Path, required=True, metavar="FOLDER", help="for looks and embeddings")
    if seed is not None:
        parser.add_argument("--seed", type=int, default=0, help=f"of {seed} (0)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="for the results")
    return parser


def write_results(out: Path | None, results: object) -> None:
    """Write results as JSON, if a file was named."""
    if out is not None:
        write_atomically(out, msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
