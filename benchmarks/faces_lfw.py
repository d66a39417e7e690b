r"""Judge every variant of a face bundle on LFW: its folds and all pairs, with the quality gate and without it.

    python -m benchmarks.faces_lfw faces.oneshot --data lfw-half.zip --kept FOLDER \
        --out benchmarks/results/faces-lfw.json

The figures are those of `edge-oneshot evaluate --protocol lfw` and `--protocol verification --beside float32`. Here
each photo is looked at once for all of them, and looks and embeddings are kept in FOLDER.
"""

import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.research.face_arguments import face_parser, write_results
from benchmarks.research.face_looks import Looks, Remembered, embedded, look
from edge_oneshot.data.archives import open_archive
from edge_oneshot.data.lfw import LISTING, read_pairs
from edge_oneshot.presentation.results import evaluation_text
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_export.judging.evaluation import VerificationResult, evaluate_verification
from edge_oneshot_export.judging.folds import FoldedPairs, evaluate_folds
from edge_oneshot_export.judging.protocols import LabelledImages

REFERENCE = "float32"


def folded(data: Path, looks: Looks, reasons: list[str | None]) -> FoldedPairs:
    """The pairs of LFW's folds, as `edge_oneshot.data.lfw.load_lfw` has them."""
    with open_archive(data) as archive:
        rows = read_pairs(archive, next(name for name in archive.files if name.split("/")[-1] == LISTING))
    every = {name.rpartition(".")[0]: place for place, name in enumerate(looks.names)}
    names = sorted({name for _, one, other in rows for name in (one, other)})
    chosen = np.array([every[name] for name in names])
    place = {name: number for number, name in enumerate(names)}
    shown = looks.found[chosen]
    return FoldedPairs(
        images=looks.chips[chosen],
        shown=shown,
        faults=tuple(reasons[one] if looks.found[one] else None for one in chosen),
        pairs=np.array([(place[one], place[other]) for _, one, other in rows], np.int64),
        same=np.array([one.split("/")[0] == other.split("/")[0] for _, one, other in rows], bool),
        folds=np.array([fold for fold, _, _ in rows], np.int64),
        people=len({name.split("/")[0] for name in names}),
    )


def remembered(bundle: Bundle, name: str, looks: Looks, kept: Path) -> Remembered:
    encoder, chips = Encoder.open(bundle, name), looks.chips[looks.found]
    return Remembered(encoder, chips, embedded(encoder, chips, kept, bundle))


def without_curve(result: VerificationResult) -> dict[str, object]:
    """As JSON, without the ROC."""
    found = asdict(result)
    for one in (found, found["ungated"] or {}):
        one.pop("roc", None)
        (one.get("beside") or {}).pop("roc", None)
    return found


def sizes(looks: Looks) -> dict[str, NDArray | int]:
    """Counts of people and photos."""
    each = np.bincount(looks.labels)
    return {"people": len(each), "photos": len(looks.labels), "people_with_two": int((each > 1).sum())}


def main() -> int:
    arguments = face_parser(__doc__, kept=True).parse_args()
    bundle = Bundle.open(arguments.bundle)
    face = bundle.manifest.input.face
    looks = look(bundle, arguments.data, arguments.kept)
    reasons = looks.refused(face.limits)
    people = LabelledImages(looks.chips, looks.labels, tuple(map(str, np.unique(looks.labels))), tuple(reasons))
    pairs = folded(arguments.data, looks, reasons)
    names = [variant.name for variant in bundle.manifest.variants]
    content = {
        "command": f"python -m benchmarks.faces_lfw {arguments.bundle.name} --data {arguments.data.name} --kept FOLDER",
        **sizes(looks),
        "folds": {},
        "verification": {},
    }
    reference = remembered(bundle, REFERENCE, looks, arguments.kept)
    for name in names:
        encoder = remembered(bundle, name, looks, arguments.kept)
        beside = reference if name != REFERENCE else None
        rates, found = evaluate_verification(encoder, people, beside=beside), evaluate_folds(encoder, pairs)
        content["verification"][name], content["folds"][name] = without_curve(rates), asdict(found)
        print(f"{name}\n{evaluation_text(rates)}\n\n{evaluation_text(found)}\n", flush=True)
        write_results(arguments.out, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
