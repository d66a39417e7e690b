"""The training step alone, on one batch again and again, beside the same step fed with augmented batches.

The difference is what the input pipeline costs: both are in images of one batch.
"""

from collections.abc import Iterator
from contextlib import closing

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot.training.augmentation import DRAWINGS
from edge_oneshot.training.batches import Batch, batches, classes_of
from edge_oneshot.training.loop import oversampled
from edge_oneshot.training.runs import Record, Settings
from edge_oneshot.training.trainer import Step, Trainer, tensors

BATCH = 64
SECTION = default_input("glyphs", 48)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("glyphs", oversampled(SECTION))


@pytest.fixture(scope="module")
def step(data: Dataset) -> Step:
    settings = Settings(
        data="glyphs",
        minutes=None,
        images=BATCH,
        seed=0,
        augment="drawings",
        held_out=1,
        batch=BATCH,
        embedding=128,
        learning_rate=1e-3,
    )
    record = Record(
        format=1,
        version="0",
        settings=settings,
        input=SECTION,
        classes=classes_of(data, DRAWINGS),
        trained_on=data.group_names,
        held_out=(),
        compiler="graph",
        images_seen=0,
        seconds=0.0,
        finished=False,
        similarity=None,
    )
    return Trainer(record).step("graph")


@pytest.fixture
def source(data: Dataset) -> Iterator[Iterator[Batch]]:
    with closing(batches(data, SECTION, DRAWINGS, size=BATCH, seed=0, first=0)) as stream:
        yield stream


@pytest.mark.benchmark(group="training step of 64 images")
def test_step_alone(benchmark: BenchmarkFixture, step: Step, source: Iterator[Batch]) -> None:
    batch = tensors(next(source))
    benchmark.pedantic(lambda: float(step(*batch)), rounds=60, warmup_rounds=5)


@pytest.mark.benchmark(group="training step of 64 images")
def test_step_fed_with_augmented_batches(benchmark: BenchmarkFixture, step: Step, source: Iterator[Batch]) -> None:
    benchmark.pedantic(lambda: float(step(*tensors(next(source)))), rounds=60, warmup_rounds=20)
