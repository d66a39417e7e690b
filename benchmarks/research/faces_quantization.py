r"""What 8 bits cost the face encoder on photos of people: accuracy and milliseconds, all variants in one run.

    python benchmarks/research/faces_quantization.py --data lfw-half.zip --most 1000 \
        --out benchmarks/results/faces-quantization.json

Cosines are to the float net, on the chips of the photos. Times are medians on one thread, the variants taking turns.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from edge_oneshot.data.loading import load_data
from edge_oneshot.faces.inputs import face_files, face_input
from edge_oneshot.faces.packages import SFACE, read_net
from edge_oneshot.faces.representative import representative_faces
from edge_oneshot.faces.sface import EMBEDDING, build_sface
from edge_oneshot_device import Encoder
from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.encoding.preprocessing import has_content, scale
from edge_oneshot_device.encoding.runtimes import open_model
from edge_oneshot_device.faces.finding import FaceFinder
from edge_oneshot_device.files import write_atomically
from edge_oneshot_export.formats.tflite import to_tflite
from edge_oneshot_export.variants import VARIANTS

ROUNDS = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DATA", help="a folder or zip of people")
    parser.add_argument("--most", type=int, default=1000, metavar="N", help="photos, drawn at random (1,000)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    arguments = parser.parse_args()
    section = face_input()
    # on all faces that are found, those that the gate refuses too
    lenient = FaceFinder(face_files(), section, msgspec.structs.replace(section.face, limits=None))
    people = load_data(arguments.data, section, faces=lenient)
    shown = np.flatnonzero(has_content(people.images, section))
    chips = people.images[np.random.default_rng(0).permutation(shown)[: arguments.most]]
    images = scale(representative_faces(section, lenient).images, section)
    model = build_sface(read_net(SFACE))
    names = ("float32", "float16", "dynamic", "int8")
    files = {name: to_tflite(model, VARIANTS[name], images) for name in names}
    embedding = EmbeddingSection(size=EMBEDDING, metric="cosine")
    encoders = {
        name: Encoder(open_model("tflite", content), section, embedding, variant=name, fingerprint="")
        for name, content in files.items()
    }
    exact = encoders["float32"].embed_many(chips)
    found = {}
    for name, encoder in encoders.items():
        cosines = (encoder.embed_many(chips) * exact).sum(axis=1)
        found[name] = {
            "bytes": len(files[name]),
            "cosine_mean": float(cosines.mean()),
            "cosine_p01": float(np.percentile(cosines, 1)),
            "cosine_min": float(cosines.min()),
        }
    times: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(ROUNDS):
        for name, encoder in encoders.items():
            began = time.thread_time()
            encoder.embed(chips[0])
            times[name].append(time.thread_time() - began)
    for name, own in times.items():
        found[name]["milliseconds"] = round(1e3 * float(np.median(own)), 2)
        print(name, json.dumps(found[name]))
    command = f"python benchmarks/research/faces_quantization.py --data DATA --most {arguments.most}"
    content = {"command": command, "chips": len(chips), "variants": found}
    write_atomically(arguments.out, json.dumps(content, indent=1).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
