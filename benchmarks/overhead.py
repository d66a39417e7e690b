"""Measure what the device's code costs beside the bare libraries on the same input, by turns in one run.

    python benchmarks/overhead.py base.oneshot --folder . --out benchmarks/results/overhead-base.json

There are three comparisons, with one thread each:

- embedding: `Encoder.embed` beside the bare interpreter, which gets the quantized input;
- identification among --people people with one template each, from a JPEG to the recorded and synced decision, beside
  the decoding of the same file, the bare interpreters on the same inputs, and one SQLite transaction with the same
  settings that writes a row of the same size. The gallery lies on the disk of --folder;
- start: the command that identifies, from its start to its printed decision, beside a script that imports the same
  modules, loads the same models and does the same work without any safeguard; also the memory of both.

The person in the photo is one of those enrolled.
"""

import argparse
import gc
import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot_device import Bundle, Encoder, Recognizer, console
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.faces.detection import Detector
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.formatting import align
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import ENVIRONMENT
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.state_names import GALLERY

SIDE = 640
PEAKS = 5

BARE_START = (Path(__file__).parent / "bare_start.py").read_text()

IDENTIFY = """
import sys
from edge_oneshot_device.cli import main
code = main(sys.argv[1:])
"""

# ru_maxrss would be that of the parent, if it is larger
PEAK = """
import os
open(os.environ["STATUS"], "w").write(open("/proc/self/status").read())
"""

LIST_MODULES = """
import json, os
names = [name for name in sys.modules if not name.startswith(("edge_oneshot", "__"))]
json.dump(names, open(os.environ["MODULES"], "w"))
"""


@dataclass(frozen=True, slots=True)
class Beside:
    """One comparison.

    Attributes:
        what: Of what.
        rounds: How often each side was measured, by turns.
        ours, bare: Median of each side, in `unit`.
        unit: ``ms`` or ``MiB``.
        ratio: Of the medians.
        interval: 95 % of the ratio, by a bootstrap of the rounds in pairs.
    """

    what: str
    rounds: int
    ours: float
    bare: float
    unit: str
    ratio: float
    interval: tuple[float, float]


def beside(what: str, ours: list[float], bare: list[float], unit: str, rng: np.random.Generator) -> Beside:
    """The ratio of the medians, with its interval."""
    both = np.array([ours, bare])
    draws = np.median(both[:, rng.integers(both.shape[1], size=(2000, both.shape[1]))], axis=2)
    low, high = np.percentile(draws[0] / draws[1], [2.5, 97.5])
    medians = np.median(both, axis=1)
    return Beside(what, len(ours), *medians.tolist(), unit, float(medians[0] / medians[1]), (float(low), float(high)))


def by_turns(ours: Callable[[], object], bare: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each side; who begins alternates."""
    sides, times = (ours, bare), ([], [])
    for side in sides:
        for _ in range(min(rounds, 20)):
            side()
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for which in (number % 2, 1 - number % 2):
                start = time.perf_counter()
                sides[which]()
                times[which].append(1e3 * (time.perf_counter() - start))
    finally:
        gc.enable()
    return times


class Bare:
    """A model in LiteRT, nothing around it, with an input of the file's size, or one for these pixels."""

    def __init__(self, content: bytes, pixels: NDArray[np.uint8] | None = None) -> None:
        interpreter = Interpreter(model_content=content, num_threads=1)
        if pixels is not None:
            interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], (1, *pixels.shape))
        interpreter.allocate_tensors()
        self._interpreter = interpreter
        self._inputs, self._outputs = interpreter.get_input_details(), interpreter.get_output_details()
        details = self._inputs[0]
        self.values = np.zeros(details["shape"], details["dtype"])
        if pixels is not None:
            self.values[:] = pixels

    def run(self) -> list[NDArray[Any]]:
        """The outputs of `values`."""
        self._interpreter.set_tensor(self._inputs[0]["index"], self.values)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(output["index"]) for output in self._outputs]


def measure(
    bundle_path: Path, variant: str, photo: bytes, folder: Path, people: int, rounds: int, starts: int
) -> list[Beside]:
    """All three comparisons."""
    rng = np.random.default_rng(0)
    bundle = Bundle.open(bundle_path)
    manifest = bundle.manifest
    file = next(one.file for one in manifest.variants if one.name == variant)
    encoder = Encoder.open(bundle, variant)
    pixels = load_image(photo, encoder.input) if encoder.faces is None else encoder.faces.load(photo)
    net = Bare(bundle.read(file))
    encoder.raw(pixels)
    net.values[:] = encoder._values  # the same input, to the bit
    results = [beside("embedding", *by_turns(lambda: encoder.embed(pixels), net.run, 5 * rounds), "ms", rng)]

    face = manifest.input.face
    looks = [] if face is None else finder_inputs(encoder, photo)
    nets = [net, *(Bare(bundle.read(face.finder.file), pixels) for pixels in looks)]
    state = folder / "state"
    install(bundle_path, state, InstallOptions(variant=variant))
    templates = enrol(state / GALLERY, encoder, people, encoder.embed(pixels)[np.newaxis], rng)
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        for setting in ("journal_mode = DELETE", "synchronous = EXTRA", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute("CREATE TABLE audit (seq INTEGER PRIMARY KEY, detail TEXT, mac BLOB)")

        def bare() -> None:
            Image.open(io.BytesIO(photo)).load()
            for one in nets:
                one.run()
            connection.execute("INSERT INTO audit (detail, mac) VALUES (?, ?)", ("x" * 250, bytes(32)))

        with Recognizer.open(state, limits=None) as recognizer:
            times = by_turns(lambda: recognizer.identify(photo), bare, rounds)
    results.append(beside(f"identification among {people}", *times, "ms", rng))
    models = folder / "encoder", folder / "finder"
    models[0].write_bytes(bundle.read(file))
    if face is not None:
        models[1].write_bytes(bundle.read(face.finder.file))
    files = [str(models[0]), *(f"{models[1]}:{pixels.shape[0]}:{pixels.shape[1]}" for pixels in looks)]
    return results + start(bundle, files, photo, folder, templates, starts, rng)


def finder_inputs(encoder: Encoder, photo: bytes) -> list[NDArray[np.uint8]]:
    """What the finder's net is shown of a photo, one after the other."""
    shown, detect = [], Detector.detect

    def keep(self: Detector, pixels: NDArray[np.uint8], *rest: Any) -> Any:
        shown.append(pixels.copy())
        return detect(self, pixels, *rest)

    with mock.patch.object(Detector, "detect", keep):
        encoder.faces.load(photo)
    return shown


def enrol(
    path: Path, encoder: Encoder, people: int, own: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Enrol so many: the first have the templates `own` (k, d), the others random ones; returns all."""
    size = encoder.embedding.size
    templates = rng.standard_normal((people, size)).astype(np.float32)
    templates *= np.linalg.norm(own[0]) / np.linalg.norm(templates, axis=1, keepdims=True)
    templates[: len(own)] = own
    with Gallery.open(path, encoder.fingerprint, size, create=True) as gallery:
        for number, template in enumerate(templates):
            gallery.enrol(f"person {number}", template[np.newaxis])
    return templates


def start(
    bundle: Bundle,
    files: Sequence[str],
    photo: bytes,
    folder: Path,
    templates: NDArray[np.float32],
    rounds: int,
    rng: np.random.Generator,
) -> list[Beside]:
    """From process start to the decision, and the most memory of each process."""
    image, matrix, modules = (folder / name for name in ("photo.jpg", "templates.npy", "modules"))
    image.write_bytes(photo)
    np.save(matrix, templates)
    rgb = str(int(bundle.manifest.input.channels == 3))
    ours = ["identify", str(image), "--state", str(folder / "state"), "--json"]
    bare = [*map(str, (matrix, image, folder / "bare.db", modules, rgb, *files))]
    run([sys.executable, "-c", IDENTIFY + LIST_MODULES, *ours], MODULES=str(modules))
    sides = (
        [str(Path(sys.executable).parent / "edge-oneshot-device"), *ours],
        [sys.executable, "-c", BARE_START, *bare],
    )
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for which in (number % 2, 1 - number % 2):
            taken = run(sides[which])
            if number:  # the first fills the disk's cache
                times[which].append(taken)
    peaks: tuple[list[float], list[float]] = ([], [])
    for _ in range(PEAKS):
        for found, command in zip(peaks, ([IDENTIFY, *ours], [BARE_START, *bare]), strict=True):
            found.append(peak(command, folder / "status"))
    return [beside("start to decision", *times, "ms", rng), beside("memory at the most", *peaks, "MiB", rng)]


def peak(command: list[str], status: Path) -> float:
    """MiB of memory that Python code, with its arguments, had at the most."""
    code, *arguments = command
    run([sys.executable, "-c", code + PEAK, *arguments], STATUS=str(status))
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024


def run(command: list[str], **environment: str) -> float:
    """Milliseconds until a process has printed what it decided; its end is waited for, but not counted."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=own | environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = 1e3 * (time.perf_counter() - start)
        process.stdout.read()
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command[:2]} ended with {process.returncode}")
    return taken


def jpeg(content: bytes, side: int | None = None) -> bytes:
    """An image file as a JPEG, with its longer side enlarged to so many pixels."""
    with Image.open(io.BytesIO(content)) as image:
        if image.format == "JPEG" and side is None:
            return content
        image = image.convert("RGB")
    if side is not None:
        image = image.resize([round(length * side / max(image.size)) for length in image.size])
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return target.getvalue()


def picture(bundle: Path, photo: Path | None) -> bytes:
    """What is identified, as a JPEG."""
    if photo is not None:
        return jpeg(photo.read_bytes())
    opened = Bundle.open(bundle)
    return jpeg(opened.read(opened.manifest.self_test.images[0]), SIDE)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", help="(the bundle's first)")
    parser.add_argument("--photo", type=Path, help=f"what is identified (a test image of the bundle, of {SIDE} pixels)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure (here)")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--out", type=Path)
    console.add_json(parser)
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle).manifest
    variant = arguments.variant or bundle.default_variant
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        os.environ[ENVIRONMENT] = str(Path(made) / "key")
        found = measure(
            arguments.bundle,
            variant,
            picture(arguments.bundle, arguments.photo),
            Path(made),
            arguments.people,
            arguments.rounds,
            arguments.starts,
        )
    rows = [("what", "ours", "bare", "unit", "ratio", "95 %")]
    rows += [
        (
            one.what,
            f"{one.ours:.3f}",
            f"{one.bare:.3f}",
            one.unit,
            f"{one.ratio:.3f}",
            "{:.3f} to {:.3f}".format(*one.interval),
        )
        for one in found
    ]
    if arguments.out is not None:
        content = {"bundle": bundle.name, "variant": variant}
        content |= {"comparisons": [asdict(one) for one in found]}
        write_atomically(arguments.out, (json.dumps(content, indent=1) + "\n").encode())
    console.print_result(found, arguments.json, align(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
