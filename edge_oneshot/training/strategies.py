"""One device, several, or several machines: TensorFlow's strategies, and who of several workers this is."""

import os
from dataclasses import dataclass
from typing import Literal

import msgspec
import tensorflow as tf

from edge_oneshot.errors import TrainingError

StrategyName = Literal["one", "mirrored", "multiworker"]


@dataclass(frozen=True, slots=True)
class Devices:
    """Where a training runs.

    Attributes:
        strategy: Of TensorFlow.
        worker, workers: Which of how many processes this is; 0 alone writes the run.
    """

    strategy: tf.distribute.Strategy
    worker: int
    workers: int

    @property
    def replicas(self) -> int:
        """Devices in all, each of which takes an equal part of a batch."""
        return int(self.strategy.num_replicas_in_sync)


def open_devices(name: StrategyName, batch: int) -> Devices:
    """Make TensorFlow's strategy; for several machines, wait until all of them are there.

    Args:
        name: ``one``: TensorFlow's default device. ``mirrored``: all GPUs of this machine.
            ``multiworker``: a process on each machine that the environment variable TF_CONFIG names.
        batch: Images a step, over all devices.

    Raises:
        TrainingError: TF_CONFIG is missing or wrong, or the batch cannot be shared out.
    """
    if name == "one":
        devices = Devices(tf.distribute.get_strategy(), 0, 1)
    elif name == "mirrored":
        devices = Devices(tf.distribute.MirroredStrategy(), 0, 1)
    else:
        worker, workers = _place()
        devices = Devices(tf.distribute.MultiWorkerMirroredStrategy(), worker, workers)
    if batch % devices.replicas:
        message = f"a batch of {batch} images cannot be shared out to {devices.replicas} devices; change --batch"
        raise TrainingError(message, reason="bad_batch")
    return devices


class _Task(msgspec.Struct):
    type: str
    index: int


class _Cluster(msgspec.Struct):
    cluster: dict[str, list[str]]
    task: _Task


def _place() -> tuple[int, int]:
    example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
    try:
        found = msgspec.json.decode(os.environ.get("TF_CONFIG", ""), type=_Cluster)
    except msgspec.DecodeError as error:
        message = f"TF_CONFIG: {error}; --strategy multiworker needs it on each machine, such as {example}"
        raise TrainingError(message, reason="bad_cluster") from None
    workers = found.cluster.get("worker", [])
    if set(found.cluster) != {"worker"} or found.task.type != "worker" or not 0 <= found.task.index < len(workers):
        message = f"TF_CONFIG: needs a cluster of workers alone, and this one's index among them, such as {example}"
        raise TrainingError(message, reason="bad_cluster")
    return found.task.index, len(workers)
