r"""Compare representative images for the face encoder's int8 ranges: pictures of packages beside real faces.

    python benchmarks/research/faces_representative.py --data olivetti.zip \
        --out benchmarks/results/faces-representative.json

Each set quantizes the network anew. Rates are over all pairs of the people's photos; cosines are to the float
network. The people's own photos (half of the people) are the best possible set.
"""

import argparse
import json
import sys
from pathlib import Path

import msgspec
import numpy as np

from edge_oneshot.data.loading import load_data
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot.faces.packages import SFACE, read_net
from edge_oneshot.faces.representative import representative_faces
from edge_oneshot.faces.sface import build_sface
from edge_oneshot_device import Encoder
from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.encoding.preprocessing import has_content, scale
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.formats.tflite import to_tflite
from edge_oneshot_export.judging.protocols import genuine_and_impostor
from edge_oneshot_export.judging.verification import verification_rates
from edge_oneshot_export.variants import VARIANTS

TAKES = 4  # of a face among the representative images; the first is the astronaut


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    arguments = parser.parse_args()
    section = face_input()
    finder = FaceFinder(face_files(), section, section.face)
    # on all faces that are found, those that the gate refuses too
    lenient = FaceFinder(face_files(), section, msgspec.structs.replace(section.face, limits=None))
    people = load_data(arguments.data, section, faces=lenient)
    shown = has_content(people.images, section)
    chips, labels = people.images[shown], np.unique(people.labels[shown], return_inverse=True)[1]
    pictures = representative_faces(section, finder).images
    noise = np.random.default_rng(arguments.seed).integers(0, 256, (50, *section.shape), np.uint8)
    sets = {
        "half of the photos": chips[::2],
        "pictures of packages": pictures,
        "astronaut": pictures[:TAKES],
        "noise": noise,
    }
    model = build_sface(read_net(SFACE))
    embedding = EmbeddingSection(size=128, metric="cosine")

    def embedded(variant: str, images: np.ndarray) -> np.ndarray:
        opened = open_model("tflite", to_tflite(model, VARIANTS[variant], scale(images, section)))
        return Encoder(opened, section, embedding, variant=variant, fingerprint="").embed_many(chips)

    exact = embedded("float32", noise)
    found = {}
    for name, images in (("float32", None), *sets.items()):
        rows = exact if images is None else embedded("int8", images)
        rates = verification_rates(genuine_and_impostor(rows, labels, "cosine"), labels)
        cosines = (rows * exact).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(exact, axis=1)
        found[name] = {
            "images": 0 if images is None else len(images),
            "eer": rates.eer,
            "tpr_at_fpr": rates.tpr_at_fpr,
            "cosine_mean": float(cosines.mean()),
            "cosine_min": float(cosines.min()),
        }
        print(name, json.dumps(found[name]))
    command = f"python benchmarks/research/faces_representative.py --data DATA --seed {arguments.seed}"
    content = {"command": command, "chips": len(chips), "sets": found}
    write_atomically(arguments.out, json.dumps(content, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
