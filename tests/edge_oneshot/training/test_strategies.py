import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from edge_oneshot.errors import TrainingError
from edge_oneshot.training.options import ExecutionOptions, TrainOptions
from edge_oneshot.training.runs import Run
from edge_oneshot.training.strategies import open_devices
from edge_oneshot.training.train import train

SMALL = {"images": 384, "size": 16, "embedding": 16, "batch": 64}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_two_worker_processes_train_one_model_and_the_first_writes_it(tmp_path):
    cluster = {"worker": [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]}
    code = """if True:
        import sys, numpy as np
        from edge_oneshot.training import loop, train
        from edge_oneshot.training.options import ExecutionOptions, TrainOptions
        keep = loop.TrainingLoop._save
        def kept(self, encoder, **last):
            np.savez(sys.argv[2], *self.trainer.trainee.get_weights())
            return keep(self, encoder, **last)
        loop.TrainingLoop._save = kept
        small = TrainOptions(images=384, size=16, embedding=16, batch=64)
        train.train("glyphs", sys.argv[1], small, ExecutionOptions(strategy="multiworker"))
    """
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / f"run{index}"), str(tmp_path / f"{index}.npz")],
            env={
                **os.environ,
                "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}}),
            },
            stderr=subprocess.PIPE,
        )
        for index in (0, 1)
    ]
    errors = [worker.communicate()[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    run = Run.open(tmp_path / "run0")
    assert run.record.finished
    assert run.record.images_seen == 384
    assert not (tmp_path / "run1").exists()
    with np.load(tmp_path / "0.npz") as first, np.load(tmp_path / "1.npz") as second:
        assert len(first.files) > 10
        assert all(np.array_equal(first[name], second[name]) for name in first.files)
    # the same model as one process would train, but for what each normalises its half by
    alone = train("glyphs", tmp_path / "alone", TrainOptions(**SMALL))
    apart = [
        np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1]
        for a, b in zip(run.encoder().trainable_weights, alone.encoder().trainable_weights, strict=True)
        if a.ndim == 4
    ]
    assert min(apart) > 0.9


def test_mirrored_training_on_one_device_is_training_on_one_device(tmp_path):
    mirrored = train("glyphs", tmp_path / "mirrored", TrainOptions(**SMALL), ExecutionOptions(strategy="mirrored"))
    one = train("glyphs", tmp_path / "one", TrainOptions(**SMALL))
    for a, b in zip(mirrored.encoder().weights, one.encoder().weights, strict=True):
        assert a.numpy() == pytest.approx(b.numpy(), abs=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        None,
        "{",
        "{}",
        '{"cluster": {}, "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_missing_or_wrong_cluster_is_one_line_with_an_example(config, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(TrainingError, match=r'TF_CONFIG.*such as \{"cluster"') as caught:
        open_devices("multiworker", 64)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
