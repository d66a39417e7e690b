"""A model file that is not in use yet is run once where it may fail: what it costs is known before it is let in."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.cli import main
from edge_oneshot_device.encoding import trial
from edge_oneshot_device.encoding.trial import try_files, try_variant
from edge_oneshot_device.errors import IntegrityError, MachineError
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from tests import MODELS
from tests.raising import raises

ONNX = (MODELS / "tiny.onnx").read_bytes()
TFLITE = (MODELS / "tiny-int8.tflite").read_bytes()


def bomb(side: int, times: int) -> bytes:
    """A model of some hundred bytes that multiplies a matrix of `side` x `side` so many times."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "sides"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{number}", f"m{number}"], [f"m{number + 1}"]) for number in range(times)),
        helper.make_node("ReduceMean", [f"m{times}"], ["all"], keepdims=0),
        helper.make_node("Expand", ["all", "answer"], ["embedding"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 8, 8, 1]), ("embedding", [1, 16]))
    ]
    sizes = {"sides": [side, side], "answer": [1, 16]}
    constants = [onnx.numpy_helper.from_array(np.array(size), name) for name, size in sizes.items()]
    graph = helper.make_graph(nodes, "bomb", ends[:1], ends[1:], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def test_an_encoder_passes(make_bundle):
    try_files([("tflite", TFLITE), ("onnx", ONNX)])
    bundle = Bundle.open(make_bundle())
    for variant in bundle.manifest.variants:
        try_variant(bundle, variant.name)


def test_the_nets_that_find_a_face_are_tried_as_well(monkeypatch):
    section = SimpleNamespace(
        models=[SimpleNamespace(file="faces/finder.tflite"), SimpleNamespace(file="faces/mesh.tflite")]
    )
    variant = SimpleNamespace(name="mine", format="onnx", file="models/mine.onnx")
    manifest = SimpleNamespace(input=SimpleNamespace(face=section), variants=[variant])
    bundle = SimpleNamespace(manifest=manifest, read=lambda path: path.encode())
    tried = []
    monkeypatch.setattr(trial, "try_files", lambda files, runtime: tried.append((files, runtime)))
    try_variant(bundle, "mine", "onnxruntime")
    faces = [("tflite", b"faces/finder.tflite"), ("tflite", b"faces/mesh.tflite")]
    assert tried == [([("onnx", b"models/mine.onnx"), *faces], "onnxruntime")]


def test_a_small_file_of_endless_work_is_refused():
    content = bomb(8000, 60)
    assert len(content) < 3000
    with raises(
        IntegrityError, match="within 1 s of processor time and 2048 MiB, does not end", reason="model_refused"
    ):
        try_files([("onnx", content)], seconds=1)


def test_a_small_file_that_needs_more_memory_than_there_may_be_is_refused():
    with raises(IntegrityError, match="and 2048 MiB, fails ", reason="model_refused") as caught:
        try_files([("onnx", bomb(100_000, 1))])
    assert "\n" not in str(caught.value)


def test_a_file_that_ends_the_process_is_refused(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -SEGV $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(trial.sys, "executable", str(program))
    with raises(IntegrityError, match="ends the process by SIGSEGV: it is corrupt", reason="model_refused"):
        try_files([("tflite", TFLITE)])


def test_what_waits_for_ever_is_refused(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(trial.sys, "executable", str(program))
    monkeypatch.setattr(trial, "_PATIENCE", 0.5)
    with pytest.raises(IntegrityError, match="does not end"):
        try_files([("tflite", TFLITE)], seconds=1)


@pytest.mark.parametrize(("kind", "content"), [("tflite", b"x"), ("onnx", b"x"), ("tflite", TFLITE[:-40])])
def test_what_is_refused_in_the_process_is_refused_with_the_same_words(kind, content):
    with raises(IntegrityError, match="is damaged, or no", reason="model_refused"):
        try_files([(kind, content)])


def test_a_runtime_that_is_missing_is_said_to_be(monkeypatch, tmp_path):
    (tmp_path / "ai_edge_litert.py").write_text("raise ModuleNotFoundError(name='ai_edge_litert')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with raises(MachineError, match="the runtime litert is not installed", reason="runtime_missing"):
        try_files([("tflite", TFLITE)])


def test_a_bundle_with_such_a_file_is_not_installed(make_bundle, exchange_model, tmp_path, monkeypatch):
    path = exchange_model(make_bundle(), "onnx-float32", bomb(8000, 60))
    monkeypatch.setattr(trial, "try_files", lambda files, runtime: try_files(files, runtime, seconds=1))
    with pytest.raises(IntegrityError, match="does not end"):
        install(path, tmp_path / "state", InstallOptions(variant="onnx-float32"))
    assert not (tmp_path / "state").exists()


def test_a_bundle_with_such_a_file_is_not_measured(make_bundle, exchange_model, monkeypatch, capsys):
    path = exchange_model(make_bundle(), "onnx-float32", bomb(8000, 60))
    monkeypatch.setattr(trial, "try_files", lambda files, runtime: try_files(files, runtime, seconds=1))
    assert main(["bench", str(path), "--variant", "onnx-float32"]) == 3
    assert "does not end" in capsys.readouterr().err
