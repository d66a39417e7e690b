import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from edge_oneshot.training.options import TrainOptions
from edge_oneshot.training.train import resume, train
from edge_oneshot_device.errors import OneShotError

SESSION = """if True:
    import sys
    from edge_oneshot import cli
    run, bundle = sys.argv[1:]
    train = ["train", "glyphs", "--out", run, "--images", "1280", "--size", "16", "--batch", "64", "--embedding", "16"]
    code = cli.main(train) or cli.main(["export", run, "--out", bundle, "--variants", "float32"])
    import keras
    print(keras.config.backend(), keras.config.image_data_format(), keras.config.floatx(), keras.config.epsilon())
    raise SystemExit(code)
"""


def test_what_the_user_set_for_keras_elsewhere_does_not_reach_the_programs(tmp_path):
    settings = {"floatx": "float16", "epsilon": 1e-3, "backend": "torch", "image_data_format": "channels_first"}
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    set_elsewhere = {"KERAS_BACKEND": "jax", "KERAS_HOME": str(tmp_path / ".keras"), "TF_USE_LEGACY_KERAS": "1"}
    run, bundle = tmp_path / "run", tmp_path / "door.oneshot"
    done = subprocess.run(
        [sys.executable, "-c", SESSION, str(run), str(bundle)],
        capture_output=True,
        text=True,
        env={**os.environ, **set_elsewhere},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "tensorflow channels_last float32 1e-07"
    assert bundle.exists()


def test_the_programs_leave_no_keras_json_in_the_home_folder(tmp_path):
    code = "from edge_oneshot import commands; commands._import_tensorflow(); import keras"
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("KERAS_HOME", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not (tmp_path / ".keras").exists()


@pytest.mark.parametrize(
    ("name", "value", "usual"),
    [("image_data_format", "channels_first", "channels_last"), ("floatx", "float16", "float32")],
)
def test_training_from_python_refuses_other_settings_by_name(name, value, usual, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.config, name, lambda: value)
    for begin in (lambda: train("glyphs", tmp_path / "run", TrainOptions(images=64)), lambda: resume(tmp_path / "run")):
        with pytest.raises(OneShotError, match=f"Keras has {name} {value} here; say keras.config.set_{name}.'{usual}'"):
            begin()
    assert not Path(tmp_path / "run").exists()


def test_training_from_python_refuses_another_backend_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(OneShotError, match="Keras runs on jax here; set KERAS_BACKEND=tensorflow") as raised:
        train("glyphs", tmp_path / "run", TrainOptions(images=64))
    assert raised.value.exit_code == 2
