r"""Compare the face bundle with dlib side by side: error rates on people, distance on photos, latency.

    pip install dlib-bin
    python benchmarks/faces.py faces.oneshot --data olivetti.zip --photos FOLDER \
        --out benchmarks/results/faces.json

FOLDER holds colour photos, named after the people they show: a name ends before its first digit or underscore. dlib
runs as face_recognition runs it: HOG detector, five landmarks, its own chip and its own network. On DATA, whose
pictures are small and tightly cropped, its network gets the chips that the device cut. PYTHONPATH=FOLDER (with
OPENBLAS_NUM_THREADS=1) selects a dlib that you built yourself.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import dlib
import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_oneshot.data.loading import load_data
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.encoding.preprocessing import has_content, load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.judging.protocols import genuine_and_impostor
from edge_oneshot_export.judging.verification import FALSE_POSITIVE_RATES, Linearised, change, verification_rates

PHOTO_SIDE = 1000  # of a photo, as the device decodes it
EYE_DISTANCES = (40, 30, 24, 20, 16, 12, 8)  # pixels
SIDE = 640  # longer side of the photos that are timed


class Dlib:
    """dlib's own way from a photo to embeddings."""

    def __init__(self) -> None:
        models = Path(util.find_spec("face_recognition_models").submodule_search_locations[0]) / "models"
        self.detector = dlib.get_frontal_face_detector()
        self.landmarks = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
        self.net = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))

    def embed(self, chip: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The embedding of a chip."""
        return np.array(self.net.compute_face_descriptor(np.ascontiguousarray(chip)), np.float32)

    def faces(self, photo: NDArray[np.uint8]) -> list[tuple[NDArray[np.float64], NDArray[np.float32]]]:
        """Of each face the middle between the eyes and the embedding."""
        found = [self.landmarks(photo, box) for box in self.detector(photo, 1)]
        eyes = [np.mean([(part.x + 0.5, part.y + 0.5) for part in shape.parts()[:4]], axis=0) for shape in found]
        chips = [dlib.get_face_chip(photo, shape, 150, 0.25) for shape in found]
        return [(at, self.embed(chip)) for at, chip in zip(eyes, chips, strict=True)]


def people_rates(bundle: Bundle, own: Dlib, data: str) -> dict[str, object]:
    encoders = {name: Encoder.open(bundle, name) for name in ("float32", "int8")}
    section = bundle.manifest.input
    # nets are compared on all faces that are found, those that the gate refuses too
    lenient = msgspec.structs.replace(section.face, limits=None)
    people = load_data(data, section, faces=FaceFinder(bundle.members, section, lenient))
    shown = has_content(people.images, section)
    chips, labels = people.images[shown], np.unique(people.labels[shown], return_inverse=True)[1]
    embeddings = {name: encoder.embed_many(chips) for name, encoder in encoders.items()}
    embeddings["dlib"] = np.stack([own.embed(chip) for chip in chips])
    pairs = {name: genuine_and_impostor(rows, labels, "euclidean") for name, rows in embeddings.items()}
    linear = {name: Linearised.of(one, labels) for name, one in pairs.items()}
    found: dict[str, object] = {"images": len(shown), "failures_to_acquire": int((~shown).sum())}
    for name, one in pairs.items():
        rates = verification_rates(one, labels)
        found[name] = {"eer": rates.eer, "tpr_at_fpr": rates.tpr_at_fpr, "intervals": rates.intervals}
    reference = linear["dlib"]
    for name in encoders:
        variances = reference.variances(linear[name].parts - reference.parts) + 1.0 / reference.images**2
        rows = zip(("eer", *FALSE_POSITIVE_RATES), reference.rates, linear[name].rates, variances, strict=True)
        changes = {rate: change(float(a), float(b), float(v), reference.people) for rate, a, b, v in rows}
        found[f"{name} against dlib"] = {
            rate: {"points": 100 * one.difference, "interval": [100 * end for end in one.interval]}
            for rate, one in changes.items()
        }
        found[f"{name} to dlib, largest distance"] = float(
            np.linalg.norm(embeddings[name] - embeddings["dlib"], axis=1).max()
        )
    return found


def photo_distances(bundle: Bundle, own: Dlib, folder: Path) -> dict[str, object]:
    encoder = Encoder.open(bundle, "int8")
    distances, missed, rows, names = [], 0, [], []
    for path in sorted(folder.iterdir()):
        photo = load_photo(path, PHOTO_SIDE)
        faces = encoder.faces.find(photo)
        embedded = [encoder.embed(encoder.faces.cut(photo, face)) for face in faces]
        person = re.split(r"[\d_.]", path.name)[0]
        rows += embedded
        names += [person if len(faces) == 1 else f"{path.stem}/{number}" for number in range(len(faces))]
        for at, theirs in own.faces(np.asarray(photo)):
            near = [
                ours
                for face, ours in zip(faces, embedded, strict=True)
                if np.hypot(*(face.detection.points[:2].mean(axis=0) - at)) < face.detection.eye_distance
            ]
            missed += not near
            distances += [float(np.linalg.norm(ours - theirs)) for ours in near[:1]]
    apart = np.linalg.norm(np.array(rows)[:, np.newaxis] - np.array(rows), axis=-1)
    same = np.equal.outer(np.array(names), np.array(names))
    upper = np.triu(np.ones_like(same), 1)
    return {
        "faces": len(distances),
        "found by dlib alone": missed,
        "mean": float(np.mean(distances)),
        "median": float(np.median(distances)),
        "largest": max(distances),
        "same people": {"pairs": int((same & upper).sum()), "largest": float(apart[same & upper].max())},
        "other people": {"pairs": int((~same & upper).sum()), "smallest": float(apart[~same & upper].min())},
    }


def made_smaller(bundle: Bundle, folder: Path) -> dict[str, object]:
    """How far an embedding moves when the face has so many pixels between the eyes; of those that have 40 and more."""
    encoder = Encoder.open(bundle, "int8")
    faces = encoder.faces
    cropped = []
    for path in sorted(folder.iterdir()):
        photo = load_photo(path, PHOTO_SIDE)
        for face in faces.find(photo):
            reach, middle = 3.0 * face.detection.eye_distance, face.detection.points[:4].mean(axis=0)
            low, high = np.maximum(middle - reach, 0.0), np.minimum(middle + reach, photo.size)
            crop = photo.crop((low[0], low[1], high[0], high[1]))
            found = faces.find(crop)
            if len(found) == 1 and found[0].detection.eye_distance >= EYE_DISTANCES[0]:
                cropped.append((crop, found[0]))
    result: dict[str, object] = {"faces": len(cropped)}
    for distance in EYE_DISTANCES:
        moved = []
        for crop, face in cropped:
            ratio = distance / face.detection.eye_distance
            small = crop.resize([round(side * ratio) for side in crop.size], Image.Resampling.LANCZOS)
            for again in faces.find(small)[:1]:
                one, other = encoder.embed(faces.cut(crop, face)), encoder.embed(faces.cut(small, again))
                moved.append(float(np.linalg.norm(one - other)))
        result[str(distance)] = {"found": len(moved), "mean": float(np.mean(moved)), "largest": max(moved)}
    return result


def latencies(bundle: Bundle, own: Dlib, folder: Path, repeats: int) -> dict[str, object]:
    """Medians in milliseconds of the one thread, one way after the other, on the photos with one good face.

    It is the processor's time that is taken, so that what else runs on the machine counts for less.
    """
    encoders = {name: Encoder.open(bundle, name) for name in ("int8", "float32")}
    finder = encoders["int8"].faces
    photos = [load_photo(path, PHOTO_SIDE) for path in sorted(folder.iterdir())]
    photos = [photo.resize([round(side * SIDE / max(photo.size)) for side in photo.size]) for photo in photos]
    photos = [photo for photo in photos if is_taken(finder, photo) and len(own.detector(np.asarray(photo), 1)) == 1]
    took: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., Any], *given: object) -> Any:
        start = time.thread_time()
        result = call(*given)
        took.setdefault(name, []).append(1e3 * (time.thread_time() - start))
        return result

    for _ in range(repeats):
        for photo in photos:
            pixels = np.asarray(photo)
            for name, encoder in encoders.items():
                timed(f"photo to embedding, {name}", lambda by, of: by.embed(finder.chip(of)), encoder, photo)
            (face,) = timed("find the face", lambda of: finder.find(of), photo)
            chip = timed("cut and check the chip", finder.take, photo, face)
            for name, encoder in encoders.items():
                timed(f"embed the chip, {name}", encoder.embed, chip)
            timed("photo to embedding, dlib", own.faces, pixels)
            timed("embed the chip, dlib", own.embed, chip)
    medians = {name: float(np.median(times)) for name, times in took.items()}
    return {"photos": len(photos), "repeats": repeats, **medians}


def is_taken(finder: FaceFinder, photo: Image.Image) -> bool:
    try:
        finder.chip(photo)
    except InputError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="faces.oneshot", help="with int8 and float32")
    parser.add_argument("--data", required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--photos", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of the timing (5)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    arguments = parser.parse_args()
    bundle, own = Bundle.open(arguments.bundle), Dlib()
    found = {
        "command": f"python benchmarks/faces.py {arguments.bundle.name} --data DATA --photos FOLDER",
        "fingerprints": {variant.name: variant.fingerprint for variant in bundle.manifest.variants},
        "dlib": {"version": dlib.__version__, "blas": dlib.DLIB_USE_BLAS, "avx": dlib.USE_AVX_INSTRUCTIONS},
        "people": people_rates(bundle, own, arguments.data),
        "photos": photo_distances(bundle, own, arguments.photos),
        "made smaller": made_smaller(bundle, arguments.photos),
        "milliseconds": latencies(bundle, own, arguments.photos, arguments.repeats),
    }
    write_atomically(arguments.out, json.dumps(found, indent=1).encode() + b"\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
