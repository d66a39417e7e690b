"""The training step alone, on one batch again and again, beside the same step fed with augmented batches.

The difference is what the input pipeline costs: both are in images of one batch.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot.training.augmentation import DRAWINGS
from edge_oneshot.training.batches import Batch, Source, batches
from edge_oneshot.training.images import oversampled
from edge_oneshot.training.runs import RECORD_FORMAT, RunRecord, RunSettings
from edge_oneshot.training.strategies import open_devices
from edge_oneshot.training.trainer import Step, Trainer

BATCH = 64
SECTION = default_input("glyphs", 48)


@pytest.fixture(scope="module")
def source() -> Source:
    return Source(load_data("glyphs", oversampled(SECTION)), SECTION, DRAWINGS, size=BATCH, seed=0)


@pytest.fixture(scope="module")
def step(source: Source) -> Step:
    settings = RunSettings(
        data="glyphs",
        minutes=None,
        images=BATCH,
        seed=0,
        augment="drawings",
        orientations=4,
        held_out=1,
        batch=BATCH,
        embedding=128,
        learning_rate=1e-3,
        net="base",
        objective="cosine",
        precision="float32",
    )
    record = RunRecord(
        format=RECORD_FORMAT,
        version="0",
        settings=settings,
        input=SECTION,
        classes=source.classes,
        trained_on=source.data.group_names,
        held_out=(),
        compiler="graph",
        images_seen=0,
        seconds=0.0,
        finished=False,
        similarity=None,
    )
    return Trainer(record, open_devices("one", BATCH)).step("graph")


@pytest.fixture
def fed(source: Source) -> Iterator[Iterator[Batch]]:
    with closing(batches(source, first=0)) as stream:
        yield stream


@pytest.mark.benchmark(group="training step of 64 images")
def test_step_alone(benchmark: BenchmarkFixture, step: Step, source: Source) -> None:
    batch = source.batch(0)
    benchmark.pedantic(lambda: step(batch), rounds=60, warmup_rounds=5)


@pytest.mark.benchmark(group="training step of 64 images")
def test_step_fed_with_augmented_batches(benchmark: BenchmarkFixture, step: Step, fed: Iterator[Batch]) -> None:
    benchmark.pedantic(lambda: step(next(fed)), rounds=60, warmup_rounds=20)
