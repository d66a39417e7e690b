"""The compiler cannot be installed here: its logs are written as issues of google-coral/edgetpu quote them."""

import os
import stat
import time
from pathlib import Path

import pytest

from edge_oneshot_device.errors import MachineError
from edge_oneshot_export.edgetpu.compiler import check, compile_for_edgetpu, disagreements, parse_log
from edge_oneshot_export.edgetpu.preflight import CompiledOps, preflight
from edge_oneshot_export.errors import ExportError
from tests.raising import raises
from tests.real_data import CORAL, needs

pytestmark = needs(CORAL)
DEEPLAB = "deeplabv3_mnv2_dm05_pascal_quant"
MOBILENET = "mobilenet_v1_0.25_128_quant"

HEAD = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 2653 ms.

Input model: model.tflite
Input size: 743.07KiB
Output model: model_edgetpu.tflite
Output size: 1.06MiB
On-chip memory used for caching model parameters: 580.50KiB
On-chip memory remaining for caching model parameters: 4.42MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
"""
TAIL = "Compilation child process completed within timeout period.\nCompilation succeeded! \n"
PARTLY = f"""\
{HEAD}Total number of operations: 72
Operation log: model_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported \
by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 64
Number of operations that will run on CPU: 8

Operator                       Count      Status

ARG_MAX                        1          Operation is working on an unsupported data type
CONCATENATION                  1          More than one subgraph is not supported
DEPTHWISE_CONV_2D              17         Mapped to Edge TPU
CONV_2D                        2          More than one subgraph is not supported
CONV_2D                        36         Mapped to Edge TPU
ADD                            10         Mapped to Edge TPU
AVERAGE_POOL_2D                1          Mapped to Edge TPU
RESIZE_BILINEAR                2          Operation is otherwise supported, but not mapped due to some unspecified \
limitation
RESIZE_BILINEAR                1          More than one subgraph is not supported
QUANTIZE                       1          More than one subgraph is not supported
{TAIL}"""
WHOLLY = f"""\
{HEAD}Total number of operations: 31
Operation log: model_edgetpu.log

Operator                       Count      Status

SOFTMAX                        1          Mapped to Edge TPU
CONV_2D                        15         Mapped to Edge TPU
RESHAPE                        1          Mapped to Edge TPU
AVERAGE_POOL_2D                1          Mapped to Edge TPU
DEPTHWISE_CONV_2D              13         Mapped to Edge TPU
{TAIL}"""
REFUSED = """\
Edge TPU Compiler version 16.0.384591198
ERROR: Didn't find op for builtin opcode 'QUANTIZE' version '3'. An older version of this builtin might be supported. \
Are you using an old TFLite binary with a newer model?

ERROR: Registration failed.

Invalid model: model.tflite
Model could not be parsed
"""
DYNAMIC = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized tensors.
Compilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run in Tflite interpreter.
Compilation child process completed within timeout period.
Compilation failed!
"""
INTERNAL = "Edge TPU Compiler version 14.1.317412892\n\nInternal compiler error. Aborting! \n"


def plain(name: str) -> bytes:
    return (CORAL / f"{name}.tflite").read_bytes()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a shell script on PATH as edgetpu_compiler; `$OUT` is the folder after -o, `$TRY` counts its runs."""

    def put(script: str, **files: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        program = folder / "edgetpu_compiler"
        program.write_text(
            f"""#!/bin/sh
HERE={folder}
echo "$@" >> $HERE/arguments
TRY=$(wc -l < $HERE/arguments)
while [ $# -gt 1 ]; do [ "$1" = -o ] && OUT=$2; shift; done
{script}
"""
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return folder

    return put


def writes(name: str) -> str:
    """A script that compiles as the real compiler did."""
    return f"cp {CORAL}/{name}_edgetpu.tflite $OUT/model_edgetpu.tflite; cat $HERE/log"


def test_a_log_of_a_partly_mapped_model_is_read():
    log = parse_log(PARTLY)
    assert (log.version, log.milliseconds, log.subgraphs) == ("16.0.384591198", 2653, 1)
    assert (log.on_chip_bytes, log.off_chip_bytes) == (594_432, 0)
    assert (log.edgetpu_ops, log.cpu_ops) == (64, 8)
    assert len(log.ops) == 10
    assert log.ops[0] == CompiledOps("ARG_MAX", 1, "Operation is working on an unsupported data type")
    assert log.ops[7].status.endswith("not mapped due to some unspecified limitation")
    assert sum(row.count for row in log.ops) == 72


def test_a_log_of_a_wholly_mapped_model_counts_all_operators_on_the_edge_tpu():
    log = parse_log(WHOLLY)
    assert (log.edgetpu_ops, log.cpu_ops, len(log.ops)) == (31, 0, 5)


@pytest.mark.parametrize(
    ("size", "expected"), [("0.00B", 0), ("3.00KiB", 3072), ("6.89MiB", 7_224_689), ("1.5GB", None)]
)
def test_sizes_are_read_in_their_units(size, expected):
    assert (
        parse_log(f"Off-chip memory used for streaming uncached model parameters: {size}\n").off_chip_bytes == expected
    )


@pytest.mark.parametrize("log", ["", REFUSED, INTERNAL, "Operator  Count  Status", "\x00\xff" * 100])
def test_what_a_log_does_not_say_is_none(log):
    parsed = parse_log(log)
    assert (parsed.milliseconds, parsed.on_chip_bytes, parsed.subgraphs, parsed.edgetpu_ops) == (None,) * 4
    assert parsed.ops == ()


def test_without_the_compiler_nothing_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_for_edgetpu(plain("split_concat")) is None


def test_the_compiler_is_run_as_it_documents_and_agrees_with_the_prediction(install):
    folder = install(writes(DEEPLAB), log=PARTLY)
    compilation = compile_for_edgetpu(plain(DEEPLAB))
    assert compilation is not None
    assert compilation.content == (CORAL / f"{DEEPLAB}_edgetpu.tflite").read_bytes()
    assert (compilation.log, compilation.tries) == (PARTLY, 1)
    words = (folder / "arguments").read_text().split()
    assert words[:4] == ["-s", "-m", "14", "-o"]
    assert words[5] == f"{words[4]}/model.tflite"
    assert not Path(words[4]).exists()
    assert disagreements(preflight(plain(DEEPLAB)), compilation) == []


def test_a_disagreement_is_named_with_both_counts(install):
    install(writes(DEEPLAB), log=PARTLY)
    compilation = compile_for_edgetpu(plain(DEEPLAB))
    assert compilation is not None
    told = disagreements(preflight(plain(MOBILENET)), compilation)
    assert told[:2] == [
        "operators on the Edge TPU: 31 predicted, 64 in the compiler's log",
        "operators on the CPU: 0 predicted, 8 in the compiler's log",
    ]
    assert "RESIZE_BILINEAR on the CPU: 0 predicted, 3 in the compiled file" in told
    assert "CONV_2D, 'More than one subgraph is not supported': 0 predicted, 2 in the compiler's log" in told


def test_parameters_that_are_streamed_against_the_prediction_are_told(install):
    install(writes(DEEPLAB), log=PARTLY.replace("parameters: 0.00B", "parameters: 3.00KiB"))
    compilation = compile_for_edgetpu(plain(DEEPLAB))
    assert compilation is not None
    assert disagreements(preflight(plain(DEEPLAB)), compilation) == [
        "parameters were predicted to fit on the chip, 3,072 bytes are streamed"
    ]


def test_the_internal_error_that_passes_is_tried_again(install):
    script = f"if [ $TRY -lt 3 ]; then cat $HERE/internal; exit 1; fi; {writes(MOBILENET)}"
    install(script, log=WHOLLY, internal=INTERNAL)
    compilation = compile_for_edgetpu(plain(MOBILENET))
    assert compilation is not None
    assert (compilation.tries, compilation.parsed.cpu_ops) == (3, 0)


def test_after_five_internal_errors_it_has_failed_and_the_log_is_kept(install):
    folder = install("cat $HERE/internal; exit 1", internal=INTERNAL)
    with raises(
        ExportError, match="edgetpu_compiler failed 5 times: Internal compiler error", reason="compiler_failed"
    ) as caught:
        compile_for_edgetpu(plain(MOBILENET))
    assert caught.value.__notes__ == [INTERNAL]
    assert len((folder / "arguments").read_text().splitlines()) == 5


@pytest.mark.parametrize(("log", "words"), [(REFUSED, "Didn't find op"), (DYNAMIC, "dynamic-sized tensors")])
def test_a_refusal_is_not_tried_again_and_says_why(log, words, install):
    folder = install("cat $HERE/log >&2; exit 1", log=log)
    with pytest.raises(ExportError, match=words) as caught:
        compile_for_edgetpu(plain(MOBILENET))
    assert (caught.value.reason, caught.value.exit_code) == ("compiler_refused", 1)
    assert len((folder / "arguments").read_text().splitlines()) == 1


def test_a_compiler_that_says_nothing_and_writes_nothing_has_refused(install):
    install("exit 0")
    with pytest.raises(ExportError, match="it said nothing"):
        compile_for_edgetpu(plain(MOBILENET))


def test_a_compiler_that_hangs_is_ended_with_its_children(install):
    folder, seconds = install("sleep 10000 & echo $! > $HERE/child; wait"), 0.5
    while not (folder / "child").exists() or not (folder / "child").read_text():  # a busy machine did not get so far
        with raises(
            MachineError, match=rf"edgetpu_compiler did not end within {seconds:g} s", reason="compiler_timeout"
        ):
            compile_for_edgetpu(plain(MOBILENET), timeout=seconds)
        seconds *= 2
    child = int((folder / "child").read_text())
    while running(child):
        time.sleep(0.01)


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may be there to reap it


def test_a_program_that_cannot_be_started_is_the_machines_fault(install):
    (install("") / "edgetpu_compiler").write_bytes(b"\x7fELF not a program")
    with raises(MachineError, match="cannot be started", reason="compiler_broken"):
        compile_for_edgetpu(plain(MOBILENET))


def test_check_writes_the_compiled_file_beside_the_plain_one(install, tmp_path):
    install(writes(DEEPLAB), log=PARTLY)
    path = tmp_path / "deeplab.tflite"
    path.write_bytes(plain(DEEPLAB))
    run = check(path).compiler
    assert run is not None
    assert (run.file, run.error, run.disagreements) == (str(tmp_path / "deeplab_edgetpu.tflite"), None, ())
    assert (tmp_path / "deeplab_edgetpu.tflite").read_bytes() == (CORAL / f"{DEEPLAB}_edgetpu.tflite").read_bytes()


def test_check_keeps_the_log_of_a_refusal_that_was_not_predicted(install, tmp_path):
    install("cat $HERE/log; exit 1", log=REFUSED)
    path = tmp_path / "mobilenet.tflite"
    path.write_bytes(plain(MOBILENET))
    report = check(path)
    assert report.mapped is True
    assert report.compiler is not None
    assert report.compiler.disagreements == ("the prediction was that it takes the file",)
    assert (report.compiler.file, report.compiler.log) == (None, REFUSED)
    assert [*tmp_path.glob("*_edgetpu*")] == []


def test_check_compiles_no_compiled_file_again(install):
    folder = install(writes(MOBILENET), log=WHOLLY)
    assert check(CORAL / f"{MOBILENET}_edgetpu.tflite").compiler is None
    assert not (folder / "arguments").exists()
