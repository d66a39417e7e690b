"""The runtimes: what each says of a model, one answer from all, and quiet on the terminal."""

import importlib.util
import struct
import subprocess
import sys
import types

import numpy as np
import pytest

from edge_oneshot_device.bundle.manifest import TensorSpec
from edge_oneshot_device.bundle.runtime_kinds import runtimes_of
from edge_oneshot_device.encoding.fake import FakeModel
from edge_oneshot_device.encoding.quantization import dequantize, quantize
from edge_oneshot_device.encoding.runtimes import Model, TfliteModel, open_model
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from tests import MODELS
from tests.raising import raises

INT8 = (MODELS / "tiny-int8.tflite").read_bytes()
FLOAT32 = (MODELS / "tiny-float32.tflite").read_bytes()
ONNX = (MODELS / "tiny.onnx").read_bytes()
# a model with one empty graph, of the schema's version 0, which no runtime reads
OF_OTHER_VERSION = struct.pack("<I4s5H2xiIIIHHi", 20, b"TFL3", 10, 8, 0, 0, 4, 12, 4, 1, 8, 4, 4, 4)
MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime", "onnxruntime": "onnxruntime"}
FLOAT_INPUT = TensorSpec(dtype="float32", shape=(1, 8, 8, 1))


def require(runtime: str) -> str:
    if importlib.util.find_spec(MODULES[runtime]) is None:
        pytest.skip(f"{runtime} is not installed")
    return runtime


@pytest.fixture(params=["litert", "tflite-runtime"])
def tflite(request) -> str:
    return require(request.param)


@pytest.fixture(params=[("tflite", "litert"), ("tflite", "tflite-runtime"), ("onnx", "onnxruntime")])
def any_runtime(request) -> tuple[str, str]:
    require(request.param[1])
    return request.param


def images(count: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, (count, 1, 8, 8, 1)).astype(np.float32)


def run_all(model: Model, values: np.ndarray) -> np.ndarray:
    """Real outputs (n, size) of real inputs (n, 1, 8, 8, 1)."""
    return np.concatenate([dequantize(model.run(quantize(value, model.input)), model.output) for value in values])


def test_a_quantized_model_says_its_scales(tflite):
    model = open_model("tflite", INT8, runtime=tflite)
    assert model.runtime == tflite
    assert model.input.dtype == model.output.dtype == "int8"
    assert (model.input.shape, model.output.shape) == ((1, 8, 8, 1), (1, 16))
    assert model.input.scale == pytest.approx(2 / 255, rel=1e-3)
    assert -128 <= model.output.zero_point <= 127
    assert np.float32(model.output.scale) == model.output.scale > 0


def test_a_float_model_has_no_scales(tflite):
    model = open_model("tflite", FLOAT32, runtime=tflite)
    assert model.input == FLOAT_INPUT
    assert model.output == TensorSpec(dtype="float32", shape=(1, 16))


def test_an_onnx_model_is_described_as_its_tflite_twin():
    model = open_model("onnx", ONNX, runtime=require("onnxruntime"))
    twin = open_model("tflite", FLOAT32)
    assert model.runtime == "onnxruntime"
    assert (model.input, model.output) == (twin.input, twin.output)


def test_all_runtimes_give_one_answer(any_runtime):
    values = images(50)
    reference = run_all(open_model("tflite", FLOAT32), values)
    format_, runtime = any_runtime
    answer = run_all(open_model(format_, FLOAT32 if format_ == "tflite" else ONNX, runtime=runtime), values)
    assert answer.dtype == np.float32
    assert np.abs(answer - reference).max() < 1e-4 * np.abs(reference).max()


def test_the_quantized_model_points_where_the_float_one_does(tflite):
    quantized = run_all(open_model("tflite", INT8, runtime=tflite), images(50))
    exact = run_all(open_model("tflite", FLOAT32, runtime=tflite), images(50))
    cosine = (quantized * exact).sum(axis=1) / np.linalg.norm(quantized, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.99


def test_an_answer_is_the_callers_own(any_runtime):
    format_, runtime = any_runtime
    model = open_model(format_, FLOAT32 if format_ == "tflite" else ONNX, runtime=runtime)
    first, second = images(2)
    kept = model.run(first)
    copy = kept.copy()
    model.run(second)
    assert np.array_equal(kept, copy)
    kept[:] = 0
    assert np.array_equal(model.run(first), copy)


def test_more_threads_give_the_same_answer(any_runtime):
    format_, runtime = any_runtime
    content = INT8 if format_ == "tflite" else ONNX
    one, two = (run_all(open_model(format_, content, runtime=runtime, threads=n), images(5)) for n in (1, 2))
    assert np.allclose(one, two, rtol=1e-5)


def test_the_runtime_follows_from_the_format_unless_it_is_named():
    assert open_model("tflite", INT8).runtime == "litert"
    assert open_model("onnx", ONNX, runtime=require("onnxruntime")).runtime == "onnxruntime"
    assert (runtimes_of("tflite")[0], runtimes_of("onnx")[0]) == ("litert", "onnxruntime")


@pytest.mark.parametrize(
    ("format_", "runtime"), [("tflite", "onnxruntime"), ("onnx", "litert"), ("tflite", "LiteRT"), ("tflite", "")]
)
def test_a_runtime_that_does_not_run_the_format_is_wrong_use(format_, runtime):
    with raises(InputError, match=rf"'{runtime}' does not run {format_} files; use ", reason="wrong_runtime"):
        open_model(format_, INT8, runtime=runtime)


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_a_silly_number_of_threads_is_wrong_use(threads):
    with raises(InputError, match="use 1 to 256", reason="wrong_threads"):
        open_model("tflite", INT8, threads=threads)


@pytest.mark.parametrize(
    ("format_", "runtime", "module", "advice"),
    [
        ("tflite", "litert", "ai_edge_litert.interpreter", 'pip install "ai-edge-litert'),
        ("tflite", "tflite-runtime", "tflite_runtime.interpreter", "tflite-runtime>=2.13,<3"),
        ("onnx", "onnxruntime", "onnxruntime", "onnxruntime>=1.22,<2"),
    ],
)
def test_a_runtime_that_is_not_installed_is_named_with_the_way_to_get_it(monkeypatch, format_, runtime, module, advice):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    with raises(MachineError, match=rf"runtime {runtime} .*{advice}", reason="runtime_missing"):
        open_model(format_, b"", runtime=runtime)


def test_a_python_for_which_there_is_no_tflite_runtime_is_not_told_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    with raises(MachineError, match=r"exists for Python up to 3\.11 only; take litert", reason="runtime_missing"):
        open_model("tflite", INT8, runtime="tflite-runtime")


def test_a_runtime_built_for_another_numpy_is_the_machines_failure(monkeypatch):
    """As tflite-runtime 2.14 fails beside numpy 2: a SystemError whose cause is an ImportError."""

    def incompatible(**_: object) -> None:
        raise SystemError("returned a result with an exception set") from ImportError("numpy.core failed to import")

    module = types.SimpleNamespace(Interpreter=incompatible)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", module)
    with raises(
        MachineError, match=r"does not load here \(numpy\.core failed to import\); run: pip", reason="runtime_missing"
    ):
        open_model("tflite", INT8, runtime="tflite-runtime")


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 1000, INT8[: len(INT8) // 2], INT8[:200], OF_OTHER_VERSION])
def test_what_is_no_tflite_model_is_refused_in_one_error(content):
    with raises(
        IntegrityError, match=r"(the model file is damaged|litert refuses the model file)", reason="model_refused"
    ):
        open_model("tflite", content)


@pytest.mark.parametrize("content", [b"", b"x", b"x" * 1000, ONNX[: len(ONNX) // 2], INT8])
def test_what_is_no_onnx_model_is_refused_in_one_error(content):
    message = r"(the model file is damaged|onnxruntime refuses the model file)"
    with raises(IntegrityError, match=message, reason="model_refused"):
        open_model("onnx", content, runtime=require("onnxruntime"))


def test_wrong_values_are_the_runtimes_failure_in_one_error(any_runtime):
    format_, runtime = any_runtime
    model = open_model(format_, FLOAT32 if format_ == "tflite" else ONNX, runtime=runtime)
    for values in (np.zeros((1, 9, 9, 1), np.float32), np.zeros((1, 8, 8, 1), np.int8)):
        with raises(MachineError, match=f"{runtime} failed to run the model", reason="runtime_failed"):
            model.run(values)


def test_memory_that_runs_out_is_the_machines_failure(monkeypatch):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")

    def exhausted(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(interpreter, "Interpreter", exhausted)
    with raises(MachineError, reason="out_of_memory"):
        open_model("tflite", INT8)


def test_xnnpack_is_active_in_litert():
    """Other kernels give other int8 outputs than those that the bundle was calibrated on."""
    for content in (INT8, FLOAT32):
        model = open_model("tflite", content)
        assert isinstance(model, TfliteModel)
        assert model.delegated


def run_python(code: str, *, close_stderr: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    if close_stderr:
        command = ["sh", "-c", 'exec "$0" "$@" 2>&-', *command]
    return subprocess.run(command, capture_output=True, text=True, check=False)


OPEN = f"""
import sys
from edge_oneshot_device.encoding.runtimes import open_model
content = open({str(MODELS / "tiny-int8.tflite")!r}, "rb").read()
model = open_model("tflite", content)
open_model("tflite", content)
"""


def test_the_native_runtime_is_kept_off_the_terminal_and_python_is_not():
    process = run_python(OPEN + "print('later', file=sys.stderr)\nimport os; os.write(2, b'native')")
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "later\nnative")


def test_the_terminal_is_given_back_after_a_refused_model():
    code = f"{OPEN}try: open_model('tflite', {OF_OTHER_VERSION!r})\nexcept ValueError as error: "
    code += "print(error, file=sys.stderr)"
    process = run_python(code)
    assert process.stderr.startswith("litert refuses the model file")
    assert process.stderr.count("\n") == 1


def test_a_closed_stderr_is_no_obstacle():
    process = run_python(OPEN + "print(model.runtime)", close_stderr=True)
    assert (process.returncode, process.stdout) == (0, "litert\n")


def test_opening_in_several_threads_gives_the_terminal_back():
    code = OPEN + (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool: list(pool.map(lambda _: open_model('tflite', content), range(40)))\n"
        "print('later', file=sys.stderr)"
    )
    assert run_python(code).stderr == "later\n"


def test_the_fake_answers_the_same_every_time_and_differs_by_seed():
    values = images(2)
    output = TensorSpec(dtype="float32", shape=(1, 16))
    first, again = FakeModel(FLOAT_INPUT, output), FakeModel(FLOAT_INPUT, output)
    assert np.array_equal(first.run(values[0]), again.run(values[0]))
    assert not np.allclose(first.run(values[0]), first.run(values[1]))
    assert not np.allclose(first.run(values[0]), FakeModel(FLOAT_INPUT, output, seed=1).run(values[0]))
    assert first.run(values[0])[0, :2].tolist() == pytest.approx([-0.5005210, 0.5384915], rel=1e-5)


def test_the_fake_keeps_the_tensors_it_was_made_with():
    quantized = TensorSpec(dtype="int8", shape=(1, 16), scale=0.01, zero_point=3)
    model = FakeModel(TensorSpec(dtype="int8", shape=(1, 8, 8, 1), scale=1 / 127, zero_point=0), quantized)
    output = model.run(np.full((1, 8, 8, 1), 50, dtype=np.int8))
    assert (output.dtype, output.shape) == (np.int8, (1, 16))
    assert model.runtime == "fake"
