"""Measure what each part of the recipe contributes: trainings that differ from it in one thing, on held-out alphabets.

    python benchmarks/research/ablations.py --images 128000 --seeds 0 --out benchmarks/results/ablations.json

Errors are exact 20-way errors of the Keras encoder over all tasks of the five held-out alphabets; no episodes are
drawn. Trainings whose results are in the file already are skipped, so that an interrupted campaign can be resumed.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rough_recipe import NET

from edge_oneshot_device.files import write_atomically

WAYS = 20


def variants() -> Mapping[str, tuple[dict[str, Any], Callable[[ExitStack], None]]]:
    """Of each variant: what `train` is told, and what is changed beside it."""
    from edge_oneshot.training import augmentation, loop, objectives, presets, trainer

    def patched(target: Any, name: str, value: Any) -> Callable[[ExitStack], None]:
        return lambda stack: stack.enter_context(mock.patch.object(target, name, value))

    def drawn(**changes: float) -> Callable[[ExitStack], None]:
        changed = replace(augmentation.DRAWINGS, **changes)
        return lambda stack: stack.enter_context(mock.patch.dict(presets.PRESETS, {"drawings": changed}))

    def softmax(margin: float, scale: float) -> Callable[[ExitStack], None]:
        def loss(e: Any, head: Any, y: Any) -> Any:
            return objectives.cosine_softmax(e, head[0], y, margin=margin, scale=scale)

        changed = replace(objectives.OBJECTIVES["cosine"], loss=loss)
        return lambda stack: stack.enter_context(mock.patch.dict(objectives.OBJECTIVES, {"cosine": changed}))

    def as_it_is(_stack: ExitStack) -> None:
        pass

    return {
        "the recipe": ({}, as_it_is),
        "plain net": ({"net": NET}, as_it_is),
        "whole image, not framed": ({"framing": "whole"}, as_it_is),
        "no whitening": ({}, patched(loop, "whiten", lambda *_: None)),
        "one view": ({"views": 1}, as_it_is),
        "8 orientations": ({"orientations": 8}, as_it_is),
        "upright alone": ({"orientations": 1}, as_it_is),
        "scale 20": ({}, softmax(objectives.MARGIN, 20.0)),
        "no margin": ({}, softmax(0.0, objectives.SCALE)),
        "weight decay 1e-4": ({}, patched(trainer, "WEIGHT_DECAY", 1e-4)),
        "no elastic field": ({}, drawn(elastic=0.0)),
        "no stroke changes": ({}, drawn(stroke=0.0)),
        "embedding of 64": ({"embedding": 64}, as_it_is),
        "contrastive": ({"objective": "contrastive"}, as_it_is),
        "triplet": ({"objective": "triplet"}, as_it_is),
        "prototypical": ({"objective": "prototypical"}, as_it_is),
        "koch": ({"objective": "koch"}, as_it_is),
    }


def judge(run: Any, data_dir: Path | None) -> dict[str, float]:
    """Errors within alphabets and over random characters, 0..1, of a finished run's encoder."""
    from edge_oneshot.training.images import load_held_out
    from edge_oneshot.training.objectives import OBJECTIVES
    from edge_oneshot_export.formats.conversion import reference_embeddings
    from edge_oneshot_export.judging.drift import unit
    from edge_oneshot_export.judging.rankings import accuracies, rank

    held_out = load_held_out(run.record, data_dir)
    metric = OBJECTIVES[run.record.settings.objective].metric
    embeddings = reference_embeddings(run.encoder(), held_out.images, run.record.input)
    if metric == "cosine":
        embeddings = unit(embeddings).astype(np.float32)
    errors = {}
    for name, groups, drawers in (("within", held_out.groups, held_out.drawers), ("random", None, None)):
        rankings = rank(embeddings, held_out.labels, metric, seed=0, groups=groups, drawers=drawers)
        errors[name] = 1.0 - accuracies(rankings, WAYS, WAYS)[0].share
    return errors


def main() -> int:
    """Run the campaign; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128_000, metavar="N", help="a training (128,000)")
    parser.add_argument("--seeds", default="0", metavar="S,...", help="of the trainings (0)")
    parser.add_argument("--only", metavar="NAME,...", help="some of the variants")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="the results")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from edge_oneshot.presentation.progress import training_progress
    from edge_oneshot.training.options import ExecutionOptions, TrainOptions
    from edge_oneshot.training.train import train

    known = variants()
    chosen = arguments.only.split(",") if arguments.only else list(known)
    if unknown := set(chosen) - set(known):
        parser.error(f"no variant {', '.join(sorted(unknown))}; known are {', '.join(known)}")
    done = json.loads(arguments.out.read_bytes()) if arguments.out.exists() else []
    made = {(one["variant"], one["images"], one["seed"]) for one in done}
    for seed in map(int, arguments.seeds.split(",")):
        for name in chosen:
            if (name, arguments.images, seed) in made:
                continue
            told, change = known[name]
            with ExitStack() as stack:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                change(stack)
                print(f"{name}, seed {seed}", file=sys.stderr)
                report = stack.enter_context(training_progress())
                how = {"images": arguments.images, "seed": seed, "precision": arguments.precision, **told}
                where = ExecutionOptions(data_dir=arguments.data_dir)
                run = train("omniglot", Path(folder) / "run", TrainOptions(**how), where, report=report)
                errors = judge(run, arguments.data_dir)
            done.append({"variant": name, "images": arguments.images, "seed": seed, **errors,
                         "seconds": round(run.record.seconds)})  # fmt: skip
            write_atomically(arguments.out, json.dumps(done, indent=1).encode() + b"\n")
            print(f"{name}: within {errors['within']:.2%}, random {errors['random']:.2%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
