"""Train with the plain recipe that docs/experiments/omniglot.md compares the shipped encoder with.

    python benchmarks/research/rough_recipe.py --out rough
    edge-oneshot export rough --out rough.oneshot

The recipe: six convolutions flattened to a dense embedding; characters in four rotations as classes; mild pose,
elastic and stroke augmentation; the whole image, not framed by its ink; hardly any weight decay; no whitening.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

NET = "24 pool 48 pool 64 64 pool 96 128"
IMAGES = 1_170_000


def main() -> int:
    """Train it; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--images", type=int, default=IMAGES, metavar="N", help=f"to see ({IMAGES:,})")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder of Omniglot's archives")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    from edge_oneshot.presentation.progress import training_progress
    from edge_oneshot.presentation.results import training_text
    from edge_oneshot.training import augmentation, loop, objectives, presets, trainer
    from edge_oneshot.training.options import ExecutionOptions, TrainOptions
    from edge_oneshot.training.run_summary import summarise
    from edge_oneshot.training.train import train

    presets.PRESETS["rough"] = augmentation.Augmentation(
        orientations=4,
        degrees=8.0,
        zoom=0.10,
        shear=0.08,
        shift=4 / 48,
        elastic=1.5 / 48,
        stroke=0.25,
        light=0.0,
        mirror=False,
        paper=True,
    )
    objectives.OBJECTIVES["cosine"] = replace(
        objectives.OBJECTIVES["cosine"],
        loss=lambda e, head, y: objectives.cosine_softmax(e, head[0], y, margin=0.15, scale=20.0),
    )
    trainer.WEIGHT_DECAY = 1e-4
    loop.whiten = lambda *_: None
    options = TrainOptions(
        images=arguments.images, seed=arguments.seed, net=NET, augment="rough", framing="whole", objective="cosine"
    )
    with training_progress() as report:
        run = train("omniglot", arguments.out, options, ExecutionOptions(data_dir=arguments.data_dir), report=report)
    print(training_text(summarise(run)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
