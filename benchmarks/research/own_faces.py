"""Measure what training on a user's own people brings: train on 30 of 40 people, judge the other ten; four splits.

    python benchmarks/research/own_faces.py --data olivetti.zip --out benchmarks/results/own-faces.json

Each person is judged once, by an encoder that was not trained on them. `train` gets the 30 people as a folder and
holds five of them out. Rates are over all pairs of photos of the ten, by the Keras encoders; an interval is Student's
t over the four splits.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edge_oneshot_device.files import write_atomically

JUDGED, SPLITS = 10, 4
STUDENT = 3.182  # 97.5 % quantile at three degrees of freedom
RATES = ("eer", "1e-2")


def unpack(archive: Path, folder: Path, seed: int) -> list[tuple[Path, Path]]:
    """Of each split the folder that is trained on and the one that is judged."""
    with zipfile.ZipFile(archive) as zipped:
        photos = {PurePosixPath(name): name for name in zipped.namelist() if name.endswith(".png")}
        people = sorted({path.parent.name for path in photos})
        order = np.random.default_rng(seed).permutation(people)
        splits = []
        for split in range(SPLITS):
            judged = set(order[split * JUDGED : (split + 1) * JUDGED])
            sides = folder / f"{split}" / "trained", folder / f"{split}" / "judged"
            for path, name in photos.items():
                target = sides[path.parent.name in judged] / path.parent.name
                target.mkdir(parents=True, exist_ok=True)
                (target / path.name).write_bytes(zipped.read(name))
            splits.append(sides)
    return splits


def rates(encoder: Any, people: Any, section: Any, metric: Any) -> dict[str, float]:
    from edge_oneshot_export.formats.conversion import reference_embeddings
    from edge_oneshot_export.judging.drift import unit
    from edge_oneshot_export.judging.protocols import genuine_and_impostor
    from edge_oneshot_export.judging.verification import verification_rates

    rows = reference_embeddings(encoder, people.images, section)
    rows = unit(rows).astype(np.float32) if metric == "cosine" else rows
    found = verification_rates(genuine_and_impostor(rows, people.labels, metric), people.labels)
    return {"eer": found.eer, "1e-2": found.tpr_at_fpr["1e-2"]}


def main() -> int:
    """Run the comparison; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="ZIP", help="of a folder of 40 people")
    parser.add_argument("--images", type=int, default=1600, metavar="N", help="a training of SFace (1,600)")
    parser.add_argument("--anew", type=int, default=9600, metavar="N", help="of a small one from nothing (9,600)")
    parser.add_argument("--seed", type=int, default=0, help="of splits and trainings (0)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="the results")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from edge_oneshot.faces.inputs import face_input
    from edge_oneshot.faces.tuning import build_tunable
    from edge_oneshot.training.images import load_faces
    from edge_oneshot.training.options import TrainOptions
    from edge_oneshot.training.train import train

    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for split, (trained, judged) in enumerate(unpack(arguments.data, folder, arguments.seed)):
            people = load_faces(str(judged), face_input())
            found.setdefault("SFace", []).append(rates(build_tunable(), people, face_input(), "cosine"))
            for name, told in {
                "its last block trained on": {"start": "faces", "images": arguments.images},
                "a small one from nothing": {"faces": True, "images": arguments.anew, "size": 64},
            }.items():
                began = time.monotonic()
                run = train(str(trained), folder / f"{split}" / name, TrainOptions(seed=arguments.seed, **told))
                section = run.record.input
                one = rates(run.encoder(), load_faces(str(judged), section), section, "cosine")
                found.setdefault(name, []).append({**one, "seconds": round(time.monotonic() - began)})
            print(split, {name: each[-1] for name, each in found.items()})
    means = {
        name: {rate: float(np.mean([one[rate] for one in each])) for rate in RATES} for name, each in found.items()
    }
    content: dict[str, Any] = {"command": "python benchmarks/research/own_faces.py --data DATA", "means": means}
    for name, each in found.items():
        for rate in RATES:
            apart = np.array([one[rate] - plain[rate] for one, plain in zip(each, found["SFace"], strict=True)])
            reach = STUDENT * apart.std(ddof=1) / np.sqrt(SPLITS)
            content.setdefault("points against SFace", {}).setdefault(name, {})[rate] = [
                round(100 * float(value), 3) for value in (apart.mean(), apart.mean() - reach, apart.mean() + reach)
            ]
    write_atomically(arguments.out, json.dumps({**content, "splits": found}, indent=1).encode() + b"\n")
    print(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
