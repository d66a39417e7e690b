"""Where the points of the mesh belong on dlib's chip: edge_oneshot/faces/template.json.

    pip install dlib-bin; python -m edge_oneshot.faces.make_template --data olivetti.zip

dlib finds each face and its five landmarks (CC0), which it lays on its mean face; the device's own nets find the
mesh of the same face. A place of the template is the median, over the faces, of where the mesh's point then lies.
"""

import argparse
import json
import sys
from importlib.metadata import distribution
from pathlib import Path

import dlib
import numpy as np
from PIL import Image

from edge_oneshot.data.archives import open_archive
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.faces.alignment import similarity_transform
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.files import write_atomically

POINTS = (33, 133, 362, 263, 2)  # where dlib has its five landmarks: the corners of both eyes, the base of the nose
# dlib's image_transforms/interpolation.h: the five landmarks of its mean face, before it pads by a quarter
MEAN_FACE = (
    (0.8595674595992, 0.2134981538014), (0.6460604764104, 0.2289674387677), (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242), (0.4901123135679, 0.6277975316475),
)  # fmt: skip
PADDING = 0.25
ENLARGED = 4
BORDER = 24  # pixels about a tight crop, so that dlib's detector sees the whole face
OUT = Path(__file__).with_name("template.json")


def main() -> int:
    """Measure and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.json")
    arguments = parser.parse_args()
    models = Path(str(distribution("face_recognition_models").locate_file("face_recognition_models/models")))
    detector = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(str(models / "shape_predictor_5_face_landmarks.dat"))
    section = face_input()
    assert section.face is not None
    finder = FaceFinder(face_files(), section, section.face)
    mean = (np.array(MEAN_FACE) + PADDING) / (1.0 + 2.0 * PADDING)
    places = []
    with open_archive(arguments.data) as archive:
        for name in [name for name in archive.files if name.endswith(".png")]:
            photo = load_photo(archive.read(name), 1000)
            faces = finder.find(photo)
            padded = np.pad(np.asarray(photo), ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
            size = (padded.shape[1] * ENLARGED, padded.shape[0] * ENLARGED)
            large = np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BICUBIC))
            boxes = detector(large)
            if len(faces) != 1 or len(boxes) != 1:
                continue
            shape = landmarks(large, boxes[0])
            found = np.array([(part.x + 0.5, part.y + 0.5) for part in shape.parts()]) / ENLARGED - BORDER
            matrix = similarity_transform(found, mean)
            places.append(faces[0].points[list(POINTS)] @ matrix[:, :2].T + matrix[:, 2])
    median = np.median(places, axis=0).round(4).tolist()
    template = [{"point": point, "x": x, "y": y} for point, (x, y) in zip(POINTS, median, strict=True)]
    lines = ",\n".join(json.dumps(place) for place in template)
    write_atomically(arguments.out, f"[\n{lines}\n]\n".encode())
    print(f"{len(places)} faces, a point strays by {np.std(places, axis=0).mean():.4f} of the chip")
    return 0


if __name__ == "__main__":
    sys.exit(main())
