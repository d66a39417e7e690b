"""Run a day of identifications, one a second, at full speed in one process: does memory grow, does it slow down?

    python benchmarks/day.py base.oneshot --out benchmarks/results/day.json

Half of the probes show enrolled people, who have one image each; the other half show strangers or blurred images.
Each probe is compared with --people people, and the decision is recorded in a gallery on the disk of --folder. Times
are processor time, which other processes disturb least. The first tenth is the warm-up; growth is measured from its
end to the end of the day, along a straight line fitted to the rest (least squares).
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from overhead import enrol
from PIL import Image, ImageFilter

from edge_oneshot_device import Bundle, Encoder, Recognizer, console
from edge_oneshot_device.encoding.preprocessing import load_image
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.gallery.keys import ENVIRONMENT
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.state_names import GALLERY

DAY = 86_400
WINDOWS = 100
PROBES = 50


@dataclass(frozen=True, slots=True)
class Day:
    """What was seen.

    Attributes:
        identifications: How many there were.
        accepted: How many of them opened the door.
        people: How many were enrolled.
        seconds: Of the whole, by the wall clock.
        memory_mib: Resident memory at the end of the warm-up and at the end.
        memory_growth: From the one to the other, as a share.
        milliseconds: Of the processor for an identification, at the end of the warm-up and at the end.
        slowdown: Likewise.
        gallery_mib: Size of the gallery's file at the end.
    """

    identifications: int
    accepted: int
    people: int
    seconds: float
    memory_mib: tuple[float, float]
    memory_growth: float
    milliseconds: tuple[float, float]
    slowdown: float
    gallery_mib: float


def spend(bundle_path: Path, variant: str | None, folder: Path, people: int, count: int) -> Day:
    """Identify so many times."""
    bundle = Bundle.open(bundle_path)
    encoder = Encoder.open(bundle, variant)
    probes = pictures(bundle)
    own = np.stack([encoder.embed(load_image(probe, encoder.input)) for probe in probes[::2]])
    state = folder / "state"
    install(bundle_path, state, InstallOptions(variant=variant, target_far=0.01))
    enrol(state / GALLERY, encoder, people, own, np.random.default_rng(0))
    del bundle, encoder
    memory, milliseconds, accepted, start = [], [], 0, time.perf_counter()
    with Recognizer.open(state, limits=None) as recognizer, console.progress("identifications") as report:
        for window in range(WINDOWS):
            begun, first, last = time.process_time(), window * count // WINDOWS, (window + 1) * count // WINDOWS
            for number in range(first, last):
                accepted += recognizer.identify(probes[number % len(probes)]).accepted
            milliseconds.append(1e3 * (time.process_time() - begun) / (last - first))
            memory.append(resident())
            report(last, count)
    seconds = time.perf_counter() - start
    ends = [line(values) for values in (memory, milliseconds)]
    return Day(
        count,
        accepted,
        people,
        seconds,
        ends[0],
        ends[0][1] / ends[0][0] - 1.0,
        ends[1],
        ends[1][1] / ends[1][0] - 1.0,
        (state / GALLERY).stat().st_size / 2**20,
    )


def pictures(bundle: Bundle) -> list[bytes]:
    """JPEGs: the bundle's test images, moved a little, and by turns as they are and blurred."""
    found = []
    names = bundle.manifest.self_test.images
    for number in range(PROBES):
        with Image.open(io.BytesIO(bundle.read(names[number % len(names)]))) as image:
            picture = image.convert("RGB").rotate(3 * number, fillcolor="white").resize((320, 320))
        target = io.BytesIO()
        blurred = picture.filter(ImageFilter.GaussianBlur(6)) if number % 2 else picture
        blurred.save(target, "JPEG")
        found.append(target.getvalue())
    return found


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def line(values: list[float]) -> tuple[float, float]:
    """A straight line through all but the first tenth, at its beginning and its end."""
    rest = np.array(values[len(values) // 10 :])
    slope, first = np.polyfit(np.arange(len(rest)), rest, 1)
    return float(first), float(first + slope * (len(rest) - 1))


def main() -> int:
    """Identify and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--variant", help="(the bundle's first)")
    parser.add_argument("--folder", type=Path, help="for the gallery (the system's for temporary files)")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--count", type=int, default=DAY)
    parser.add_argument("--out", type=Path)
    console.add_json(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as made:
        os.environ[ENVIRONMENT] = str(Path(made) / "key")
        day = spend(arguments.bundle, arguments.variant, Path(made), arguments.people, arguments.count)
    if arguments.out is not None:
        write_atomically(arguments.out, (json.dumps(asdict(day), indent=1) + "\n").encode())
    text = (
        f"{day.identifications:,} identifications among {day.people:,} in {day.seconds:.0f} s,"
        f" {day.accepted:,} accepted\n"
        f"memory     {day.memory_mib[0]:.1f} MiB after the warm-up, {day.memory_mib[1]:.1f} at the end:"
        f" {100 * day.memory_growth:+.2f} %\n"
        f"processor  {day.milliseconds[0]:.3f} ms each after the warm-up, {day.milliseconds[1]:.3f} at the end:"
        f" {100 * day.slowdown:+.2f} %\n"
        f"gallery    {day.gallery_mib:.1f} MiB at the end"
    )
    console.print_result(day, arguments.json, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
