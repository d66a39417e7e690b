"""Folders, people and files with names that are no UTF-8: the workstation's commands take them as the device does."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from edge_oneshot import cli
from edge_oneshot.deploying import archive
from edge_oneshot.training.runs import Run
from edge_oneshot_device import Bundle
from tests import MODELS
from tests.samples.folders import draw_people_folders

ODD = os.fsdecode(b"caf\xe9")
SPELT = "caf\\udce9"

LINES = (
    (0, "train people-ODD --out run-ODD --images 64 --size 16 --net 'down8 pool 16' --embedding 8 --batch 16"
        " --tensorboard"),
    (0, "train people-ODD --out run-ODD --images 64 --resume"),
    (2, "train people-ODD --out run-ODD --images 64"),
    (2, "train absent-ODD --out new-ODD --images 64"),
    (0, "export run-ODD --out run-ODD.oneshot --variants float32 --report run-ODD.html"),
    (0, "keygen --out ODD.key"),
    (0, "export --model model-ODD.tflite model-ODD.onnx --data people-ODD --sign ODD.key --out model-ODD.oneshot"),
    (0, "calibrate model-ODD.oneshot --data people-ODD --sign ODD.key --out ODD.oneshot"),
    (2, "calibrate model-ODD.oneshot --data people-ODD --out model-ODD.oneshot"),
    (0, "evaluate ODD.oneshot --data people-ODD --protocol random --ways 2 --episodes 20 --variant float32"
        " --figure ODD.svg"),
    (0, "evaluate ODD.oneshot --data people-ODD --protocol verification --variant float32"),
    (2, "evaluate run-ODD.oneshot --data people-ODD --protocol within-alphabet --variant float32"),
    (1, "preflight model-ODD.tflite"),
    (0, "inspect ODD.oneshot"),
    (0, "inspect ODD.oneshot model-ODD.oneshot"),
    (0, "deploy ODD.oneshot --variant float32 --trust ODD.key.pub --out ODD.tar.gz"),
    (2, "deploy ODD.oneshot --out ODD.key"),
)  # fmt: skip

SLOW = ("export", "keygen", "train people-ODD --out run-ODD --images 64 --size")  # or has been done


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of such a name with images of people, some of them of such names."""
    found = tmp_path / ODD
    names = [f"{person} {ODD}" if person % 2 else f"{person} Zoë" for person in range(12)]
    draw_people_folders(found / f"people-{ODD}", names, [f"{number} {ODD}.png" for number in range(4)])
    shutil.copy(MODELS / "tiny-float32.tflite", found / f"model-{ODD}.tflite")
    shutil.copy(MODELS / "tiny.onnx", found / f"model-{ODD}.onnx")
    monkeypatch.chdir(found)
    monkeypatch.setattr(archive, "pack_device", lambda folder: folder / "device.whl")
    monkeypatch.setattr(archive, "download_dependencies", lambda *_: None)
    monkeypatch.setattr(archive, "requirements", lambda _: "")
    return found


def test_every_command_ends_as_it_would_with_any_other_name(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spelt = 0
    for as_json in (True, False):
        for expected, line in LINES:
            if not as_json and line.startswith(SLOW):
                continue
            words = [word.replace("ODD", ODD) for word in shlex.split(line)]
            code = cli.main([*words, *(["--json"] if as_json else [])])
            out, err = capfd.readouterr()
            assert code == expected, f"{line}: {code}: {out}{err}"
            if as_json:
                json.loads(out or err.splitlines()[-1])
            spelt += (json.dumps(SPELT)[1:-1] if as_json else SPELT) in out + err
    assert spelt > 15
    record = Run.open(folder / f"run-{ODD}").record
    assert os.fsencode(record.settings.data) == os.fsencode(folder / f"people-{ODD}")
    assert f"1 {ODD}" in {*record.trained_on, *record.held_out}
    (folder / f"run-{ODD}" / "run.json").read_text(encoding="utf-8")
    trained_on = Bundle.open(folder / f"run-{ODD}.oneshot").manifest.provenance.trained_on
    assert len(trained_on) == len(record.trained_on)
    assert all(name.startswith("sha256:") for name in trained_on)
