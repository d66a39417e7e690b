"""TensorFlow's distribution strategies: one device, several, or several machines with one worker each."""

import os
from dataclasses import dataclass

import msgspec
import tensorflow as tf

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.options import StrategyName


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices that share each step.

    Attributes:
        strategy: TensorFlow's.
        worker: Number of this process, from 0 on; worker 0 alone writes the run.
        workers: Count of the processes.
    """

    strategy: tf.distribute.Strategy
    worker: int
    workers: int

    @property
    def replicas(self) -> int:
        """Count of all devices; each takes an equal part of a batch."""
        return int(self.strategy.num_replicas_in_sync)


def open_devices(name: StrategyName, batch: int) -> Devices:
    """Make TensorFlow's strategy; for several machines, wait until all of them are there.

    Args:
        name: ``one``: TensorFlow's default device. ``mirrored``: all GPUs of this machine.
            ``multiworker``: a process on each machine that the environment variable TF_CONFIG names.
        batch: Images per step, over all devices.

    Raises:
        TrainingError: Reason ``bad_cluster``: TF_CONFIG is missing or wrong; ``bad_batch``: the batch cannot be divided
            equally.
    """
    if name == "one":
        devices = Devices(tf.distribute.get_strategy(), 0, 1)
    elif name == "mirrored":
        devices = Devices(tf.distribute.MirroredStrategy(), 0, 1)
    else:
        worker, workers = _place()
        devices = Devices(tf.distribute.MultiWorkerMirroredStrategy(), worker, workers)
    if batch % devices.replicas:
        message = f"a batch of {batch} images cannot be divided among {devices.replicas} devices; change --batch"
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
        message = f"TF_CONFIG: needs a cluster of workers only, with the index of this one, such as {example}"
        raise TrainingError(message, reason="bad_cluster")
    return found.task.index, len(workers)
