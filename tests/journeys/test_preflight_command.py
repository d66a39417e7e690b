"""preflight as a user types it: fast, without TensorFlow, with the documented exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_data import CORAL, needs

BIN = Path(sys.executable).parent
needs_coral = needs(CORAL)


def preflight(*arguments: object, code: int) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "edge-oneshot"), "preflight", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == code, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result


@needs_coral
def test_a_wholly_mapped_model_passes():
    path = CORAL / "mobilenet_v1_0.25_128_quant.tflite"
    text = preflight(path, code=0).stdout
    assert text.endswith(f"{path}: wholly mapped: 31 of 31 operators run on the Edge TPU\n")
    report = json.loads(preflight(path, "--json", code=0).stdout)
    assert (report["mapped"], report["subgraphs"], report["fits_on_chip"], len(report["ops"])) == (True, 1, True, 31)
    assert report["compiler"] is None


@needs_coral
def test_a_partly_mapped_model_fails_and_the_operators_to_blame_are_named():
    path = CORAL / "deeplabv3_mnv2_dm05_pascal_quant.tflite"
    text = preflight(path, code=1).stdout
    assert "RESIZE_BILINEAR    1        1      CPU       Operation is otherwise supported" in text
    assert text.endswith("partly mapped: 64 operators on the Edge TPU, 8 on the CPU\n")
    report = json.loads(preflight(path, "--json", code=1).stdout)
    assert [op["op"] for op in report["ops"] if op["target"] == "cpu"] == [
        *("RESIZE_BILINEAR", "QUANTIZE", "CONCATENATION", "CONV_2D", "CONV_2D"),
        *("RESIZE_BILINEAR", "RESIZE_BILINEAR", "ARG_MAX"),
    ]


@needs_coral
def test_one_operator_is_told_as_one():
    path = CORAL / "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite"
    assert preflight(path, code=1).stdout.endswith("partly mapped: 1 operator on the Edge TPU, 8 on the CPU\n")


@pytest.mark.parametrize("content", [None, b"not a model", b""])
def test_what_is_no_model_is_bad_input_in_one_line(content, tmp_path):
    path = tmp_path / "model.tflite"
    if content is not None:
        path.write_bytes(content)
    result = preflight(path, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert str(path) in result.stderr
    error = json.loads(preflight(path, "--json", code=2).stderr)
    assert error["reason"] == ("not_found" if content is None else "not_tflite")


@needs_coral
def test_a_compiler_on_path_is_run_and_compared(tmp_path, monkeypatch):
    model, program = tmp_path / "door.tflite", tmp_path / "bin" / "edgetpu_compiler"
    model.write_bytes((CORAL / "split_concat.tflite").read_bytes())
    program.parent.mkdir()
    compiled = CORAL / "split_concat_edgetpu.tflite"
    log = "Model compiled successfully in 9 ms.\nNumber of Edge TPU subgraphs: 2\nTotal number of operations: 3\n"
    program.write_text(f"#!/bin/sh\ncp {compiled} $5/model_edgetpu.tflite\ncat <<END\n{log}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    text = preflight(model, code=0).stdout
    assert "unlike the prediction: Edge TPU subgraphs: 1 predicted, 2 in the compiler's log" in text
    assert (tmp_path / "door_edgetpu.tflite").read_bytes() == compiled.read_bytes()
    run = json.loads(preflight(model, "--json", code=0).stdout)["compiler"]
    assert (run["file"], run["parsed"]["edgetpu_ops"], run["log"]) == (str(tmp_path / "door_edgetpu.tflite"), 3, log)


@needs_coral
def test_the_command_imports_no_tensorflow():
    script = (
        "import sys\n"
        "from edge_oneshot.cli import main\n"
        f"assert main(['preflight', {str(CORAL / 'split_concat.tflite')!r}]) == 0\n"
        "print(sorted({'tensorflow', 'keras', 'onnx', 'sklearn', 'scipy'} & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
