"""What the finder and an encoder make of each photo of a data set, kept in a folder so that it is computed once.

The middle face of each photo is cut whatever the quality gate says of it, as `edge-oneshot evaluate` does. Embeddings
are kept by the model's digest, looks by those of the finder and of the template.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot.data.archives import open_archive
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.bundle.face_section import FaceLimits
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces.finding import PHOTO_SIDE, FaceFinder
from edge_oneshot_device.faces.quality import Quality, find_fault
from edge_oneshot_device.image_files import is_image

MEASURES = Quality.__struct_fields__


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """The middle faces of photos.

    Attributes:
        names: ``PERSON/FILE`` of each photo (n,).
        labels: int64 (n,), whose photo it is.
        chips: uint8 (n, h, w, 3), black where no face was found.
        faults: Why the device refuses a photo without any quality limit, such as ``several_faces``; else empty (n,).
        found: bool (n,), whether there is a face.
        eyes: float64 (n,), pixels between them.
        quality: float64 (n, m), `MEASURES`.
    """

    names: NDArray[np.str_]
    labels: NDArray[np.int64]
    chips: NDArray[np.uint8]
    faults: NDArray[np.str_]
    found: NDArray[np.bool_]
    eyes: NDArray[np.float64]
    quality: NDArray[np.float64]

    def refused(self, limits: FaceLimits) -> list[str | None]:
        """Why the device refuses each photo, with these limits."""
        reasons: list[str | None] = []
        for fault, values in zip(self.faults, self.quality, strict=True):
            worse = find_fault(Quality(*values.tolist()), limits)
            reasons.append(str(fault) if fault else worse[0] if worse else None)
        return reasons


def look(bundle: Bundle, data: Path, kept: Path) -> Looks:
    """Look at every photo, or read what was kept."""
    section = bundle.manifest.input
    face = section.face
    key = hashlib.sha256(
        msgspec.json.encode((face.finder, face.template, face.max_overlap, face.min_eye_distance))
    ).hexdigest()[:12]
    path = kept / f"looks-{key}.npz"
    if path.exists():
        with np.load(path) as read:
            return Looks(**{name: read[name] for name in read.files})
    lenient = msgspec.structs.replace(face, limits=None)
    found = _look(FaceFinder(bundle.members, section, lenient), section.shape, data)
    kept.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: getattr(found, name) for name in Looks.__slots__})
    return found


def _look(finder: FaceFinder, shape: tuple[int, ...], data: Path) -> Looks:
    with open_archive(data) as archive:
        files = [name for name in archive.files if is_image(name)]
        count = len(files)
        chips, faults = np.zeros((count, *shape), np.uint8), np.zeros(count, "<U32")
        found, eyes, quality = np.zeros(count, bool), np.zeros(count), np.zeros((count, len(MEASURES)))
        for number, name in enumerate(files):
            photo = load_photo(archive.read(name), PHOTO_SIDE)
            middle = np.array(photo.size) / 2
            seen = finder.find(photo)
            try:
                finder.chip(photo)
            except InputError as error:
                faults[number] = error.reason
            if seen:
                nearest = min(seen, key=lambda one: float(np.hypot(*(one.detection.points.mean(axis=0) - middle))))
                chips[number], found[number] = finder.cut(photo, nearest), True
                eyes[number] = nearest.detection.eye_distance
                quality[number] = msgspec.structs.astuple(finder.quality(photo, nearest))
            if number % 500 == 0:
                print(f"{number:,} of {count:,} photos", flush=True)
    names = np.array(["/".join(name.split("/")[-2:]) for name in files])
    labels = np.unique([name.split("/")[0] for name in names], return_inverse=True)[1]
    return Looks(names, labels.astype(np.int64), chips, faults, found, eyes, quality)


def embedded(encoder: Encoder, chips: NDArray[np.uint8], kept: Path, bundle: Bundle) -> NDArray[np.float32]:
    """The embeddings (n, d) of chips, or what was kept of them."""
    file = next(one.file for one in bundle.manifest.variants if one.name == encoder.variant)
    key = hashlib.sha256(chips.tobytes() + bundle.members[file]).hexdigest()[:16]
    path = kept / f"{encoder.variant}-{key}.npy"
    if not path.exists():
        rows = encoder.embed_many(chips, lambda count: count % 500 or print(f"{count:,} chips", flush=True))
        np.save(path, rows)
    return np.load(path)


class Remembered:
    """An encoder that knows the embeddings of chips already; what judges an `Encoder` judges it likewise."""

    def __init__(self, encoder: Encoder, chips: NDArray[np.uint8], rows: NDArray[np.float32]) -> None:
        self.input, self.embedding = encoder.input, encoder.embedding
        self.variant, self.runtime, self.fingerprint = encoder.variant, encoder.runtime, encoder.fingerprint
        self._rows = {chip.tobytes(): row for chip, row in zip(chips, rows, strict=True)}

    def embed_many(self, images: NDArray[np.uint8], _progress: object = None) -> NDArray[np.float32]:
        """The embeddings (n, d) of chips (n, h, w, 3)."""
        return np.stack([self._rows[image.tobytes()] for image in images])
