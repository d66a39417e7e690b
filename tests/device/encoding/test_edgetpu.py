"""The Edge TPU, which no test ever saw: a delegate built here stands in for libedgetpu, and fails as it may fail.

What runs is real: the dynamic loader, LiteRT, the delegate's calls, the worker and its death.
"""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device import Bundle, Encoder, Recognizer, cli
from edge_oneshot_device.encoding import edgetpu
from edge_oneshot_device.encoding.edgetpu import EdgeTpuModel
from edge_oneshot_device.encoding.runtimes import Model, open_model
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource
from edge_oneshot_device.installation.installer import install
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.state.device_settings import read_settings
from tests import MODELS
from tests.raising import raises

CONTENT = (MODELS / "tiny-int8.tflite").read_bytes()
VALUES = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
HOST = edgetpu.host_runtime()
Fault = Callable[..., None]


def plain() -> Model:
    """The file on the processor, in the runtime that the delegate is loaded into."""
    return open_model("tflite", CONTENT, runtime=HOST)


@pytest.fixture
def coral(fake_edgetpu: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the library."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_edgetpu.parent))
    monkeypatch.setattr(edgetpu, "_RUN_SECONDS", 600.0)  # however busy the machine is
    return fake_edgetpu


@pytest.fixture
def fault(coral: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fault:  # noqa: ARG001 (sets the library)
    """Sets what goes wrong from the next start of a worker on, or once only, after so many good inferences."""

    def set_fault(how: str, *, once: bool = False, after: int = 1) -> None:
        monkeypatch.setenv("FAKE_EDGETPU", how)
        monkeypatch.setenv("FAKE_EDGETPU_AFTER", str(after))
        if how == "stall":
            monkeypatch.setattr(edgetpu, "_RUN_SECONDS", 3.0)
        if once:
            monkeypatch.setenv("FAKE_EDGETPU_ONCE", str(tmp_path / "went-wrong"))

    return set_fault


def worker(model: EdgeTpuModel) -> int:
    assert model._worker is not None
    return model._worker._process.pid


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_delegate_runs_the_compiled_file_in_a_process_of_its_own(coral):
    model = EdgeTpuModel(CONTENT)
    alone = plain()
    assert model.runtime == "edgetpu"
    assert (model.input, model.output) == (alone.input, alone.output)
    assert np.array_equal(model.run(VALUES), alone.run(VALUES))
    assert worker(model) != os.getpid()
    assert str(coral) in Path(f"/proc/{worker(model)}/maps").read_text()
    assert str(coral) not in Path("/proc/self/maps").read_text()


@pytest.mark.usefixtures("coral")
def test_an_answer_is_the_callers_own():
    model = EdgeTpuModel(CONTENT)
    kept = model.run(VALUES)
    copy = kept.copy()
    model.run(-VALUES)
    assert np.array_equal(kept, copy)
    kept[:] = 0
    assert np.array_equal(model.run(VALUES), copy)


@pytest.mark.usefixtures("coral")
def test_wrong_values_are_refused_and_the_worker_lives_on():
    model = EdgeTpuModel(CONTENT)
    before = worker(model)
    with raises(MachineError, match=r"edgetpu takes int8 \(1, 8, 8, 1\), not float32", reason="runtime_failed"):
        model.run(VALUES.astype(np.float32))
    assert worker(model) == before


# it cannot be started


@pytest.mark.parametrize(
    ("how", "reason", "words"),
    [
        ("refuse", "edgetpu_unavailable", r"cannot be used \(Failed to load delegate .* no device\); .* doctor says"),
        ("crash", "edgetpu_crashed", rf"on {HOST} ended its process by SIGSEGV while it was started.* another version"),
        ("die", "edgetpu_crashed", r"by SIGABRT while it was started \(transfer on tag 1 failed. Abort.*error 2\): it"),
        ("hang", "edgetpu_hung", r"did not answer within 3 s while it was started; plug it in again"),
        ("stall", "edgetpu_hung", r"did not answer within 3 s while it was started"),
        ("no-inference", "runtime_failed", rf"{HOST} failed to run the model: .*fake-edgetpu"),
    ],
)
def test_a_library_that_cannot_be_used_is_one_error_and_the_process_lives(fault, monkeypatch, how, reason, words):
    monkeypatch.setattr(edgetpu, "_START_SECONDS", 3.0 if reason == "edgetpu_hung" else 600.0)
    fault(how, after=0)
    with raises(MachineError, match=words, reason=reason) as caught:
        EdgeTpuModel(CONTENT)
    assert "\n" not in str(caught.value)


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(edgetpu, "LIBRARY", "libedgetpu-of-nobody.so.1")
    with raises(
        MachineError, match=r"libedgetpu-of-nobody.so.1: cannot open shared object file", reason="edgetpu_unavailable"
    ):
        EdgeTpuModel(CONTENT)


@pytest.mark.usefixtures("coral")
def test_a_file_that_the_runtime_refuses_is_refused_on_the_processor_as_well():
    with raises(IntegrityError, reason="model_refused"):
        EdgeTpuModel(b"x" * 1000, plain)


def test_the_plain_file_runs_in_its_place_only_where_that_is_allowed_and_it_is_logged(fault, caplog):
    fault("crash")
    model = EdgeTpuModel(CONTENT, plain)
    assert model.runtime == HOST
    assert np.array_equal(model.run(VALUES), plain().run(VALUES))
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "edge_oneshot_device.encoding.edgetpu")
    assert record.getMessage().endswith(f"; {HOST} runs the plain file in its place, as is allowed")


# it fails later


@pytest.mark.parametrize("how", ["die", "stall", "no-inference"])
def test_a_worker_that_fails_once_is_started_anew_and_answers(fault, caplog, how):
    fault(how, once=True, after=2)
    model = EdgeTpuModel(CONTENT)
    first, before = model.run(VALUES), worker(model)
    assert np.array_equal(model.run(VALUES), first)
    assert (model.runtime, worker(model) != before, is_alive(before)) == ("edgetpu", True, False)
    assert [record.getMessage().endswith("; it is started anew") for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("how", "reason"), [("die", "edgetpu_crashed"), ("stall", "edgetpu_hung"), ("no-inference", "runtime_failed")]
)
def test_a_worker_that_fails_again_is_an_error_until_it_is_mended(fault, monkeypatch, how, reason):
    fault(how)
    model = EdgeTpuModel(CONTENT)
    for _ in range(2):
        with raises(MachineError, match=r"inference|failed to run", reason=reason):
            model.run(VALUES)
    monkeypatch.delenv("FAKE_EDGETPU")
    assert np.array_equal(model.run(VALUES), plain().run(VALUES))
    assert model.runtime == "edgetpu"


@pytest.mark.usefixtures("coral")
def test_a_worker_that_was_stopped_from_outside_is_started_anew(monkeypatch):
    monkeypatch.setattr(edgetpu, "_RUN_SECONDS", 3.0)
    model = EdgeTpuModel(CONTENT)
    os.kill(worker(model), signal.SIGKILL)
    assert np.array_equal(model.run(VALUES), plain().run(VALUES))
    stopped = worker(model)
    os.kill(stopped, signal.SIGSTOP)  # it neither reads nor hears its alarm
    assert np.array_equal(model.run(VALUES), plain().run(VALUES))
    assert not is_alive(stopped)


def test_where_that_is_allowed_the_processor_takes_over_for_good(fault, monkeypatch, caplog):
    fault("stall")
    model = EdgeTpuModel(CONTENT, plain)
    assert model.runtime == "edgetpu"
    expected = plain().run(VALUES)
    assert np.array_equal(model.run(VALUES), expected)
    assert (model.runtime, model._worker) == (HOST, None)
    monkeypatch.delenv("FAKE_EDGETPU")
    assert np.array_equal(model.run(VALUES), expected)
    assert model.runtime == HOST
    assert [record.getMessage().rpartition("; ")[2] for record in caplog.records] == [
        "it is started anew",
        f"{HOST} runs the plain file in its place, as is allowed",
    ]


# it is left behind


@pytest.mark.usefixtures("coral")
def test_the_worker_ends_with_the_model():
    model = EdgeTpuModel(CONTENT)
    pid = worker(model)
    assert is_alive(pid)
    del model
    gc.collect()
    assert not is_alive(pid)


@pytest.mark.parametrize("how", ["", "stall"])
def test_a_worker_whose_parent_was_killed_ends_even_in_a_call_that_hangs(fault, how):
    fault(how)
    code = (
        "import sys, numpy as np\n"
        "from edge_oneshot_device.encoding import edgetpu\n"
        "edgetpu._RUN_SECONDS = 5.0\n"
        "model = edgetpu.EdgeTpuModel(open(sys.argv[1], 'rb').read())\n"
        "print(model._worker._process.pid, flush=True)\n"
        "while True: model.run(np.zeros((1, 8, 8, 1), np.int8))"
    )
    with subprocess.Popen([sys.executable, "-c", code, MODELS / "tiny-int8.tflite"], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.kill()
    if how:
        assert is_alive(pid)
    while is_alive(pid):
        time.sleep(0.05)


# in a bundle, and at the door


@pytest.fixture
def compiled(make_bundle: Callable[..., Path]) -> Path:
    """A bundle whose int8 variant is "compiled": the stand-in runs the plain file."""
    pytest.importorskip("ai_edge_litert")

    def change(manifest: dict) -> None:
        manifest["variants"][0]["compiled"] = manifest["variants"][0]["file"]

    return make_bundle(change=change)


@pytest.mark.usefixtures("coral")
def test_an_encoder_on_the_edge_tpu_gives_the_embeddings_of_its_plain_twin(compiled, people):
    bundle = Bundle.open(compiled)
    encoder, twin = Encoder.open(bundle, "int8", runtime="edgetpu"), Encoder.open(bundle, "int8")
    assert (encoder.runtime, twin.runtime) == ("edgetpu", "litert")
    assert encoder.fingerprint == twin.fingerprint
    for image in people["ada"]:
        assert np.abs(encoder.embed_image(image) - twin.embed_image(image)).max() < 0.02


def test_a_variant_without_a_compiled_file_is_wrong_use_that_names_those_with_one(compiled, make_bundle):
    with raises(InputError, match=r"variant float32 has no .*; choose one that has: int8", reason="not_compiled"):
        Encoder.open(Bundle.open(compiled), "float32", runtime="edgetpu")
    with pytest.raises(InputError, match="choose one that has: none has"):
        Encoder.open(Bundle.open(make_bundle()), "int8", runtime="edgetpu", allow_cpu=True)


@pytest.mark.usefixtures("coral")
def test_what_computes_something_else_is_refused_and_not_replaced(make_bundle):
    pytest.importorskip("ai_edge_litert")

    def change(manifest: dict) -> None:
        manifest["variants"][0]["compiled"] = manifest["variants"][0]["file"]
        manifest["self_test"]["outputs"]["int8"][0][0] += 9

    with raises(IntegrityError, match="int8 on edgetpu fails", reason="self_test_failed"):
        Encoder.open(Bundle.open(make_bundle(change=change)), "int8", runtime="edgetpu", allow_cpu=True)


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict]:
    code = cli.main([*map(str, arguments), "--json"])
    printed = capfd.readouterr()
    return code, json.loads(printed.out or printed.err)


def test_decisions_and_the_record_say_what_ran(fault, compiled, people, tmp_path, monkeypatch):
    state, key = tmp_path / "state", tmp_path / "key"
    installed = install(compiled, state, InstallOptions(runtime="edgetpu", allow_cpu=True), key=key)
    assert installed.runtime == "edgetpu"
    fault("die", after=4)  # one as it starts, two of the self-test, one for ada
    with Recognizer.open(state, key=key, limits=None) as recognizer:
        recognizer.enrol("ada", people["ada"][0])
        assert recognizer.identify(people["ada"][1]).runtime == "edgetpu"
        monkeypatch.setenv("FAKE_EDGETPU", "crash")
        decision = recognizer.identify(people["ada"][2])
        assert (decision.person, decision.runtime) == ("ada", "edgetpu")
    fault("crash")
    with Recognizer.open(state, key=key, limits=None) as recognizer:
        decision = recognizer.identify(people["ada"][1])
        assert (decision.person, decision.runtime) == ("ada", "litert")
        ran = [json.loads(row.detail).get("runtime") for row in recognizer.gallery.rows() if row.act == "identify"]
    assert ran == ["edgetpu", "edgetpu", "litert"]


def test_init_takes_the_edge_tpu_or_says_why_not(fault, compiled, tmp_path, capfd, caplog):
    state = ("--state", tmp_path / "state", "--key", tmp_path / "key")
    use = ("init", compiled, *state, "--runtime", "edgetpu")
    fault("refuse")
    code, told = call(capfd, *use)
    assert (code, told["reason"]) == (4, "edgetpu_unavailable")
    assert not (tmp_path / "state").exists()
    code, told = call(capfd, *use, "--allow-cpu")
    assert (code, told["runtime"]) == (0, "litert")
    assert "litert runs the plain file in its place" in caplog.text
    with Gallery.open(tmp_path / "state" / "gallery.db", key=KeySource(tmp_path / "key")) as gallery:
        settings = read_settings(gallery)
    assert (settings.runtime, settings.allow_cpu) == ("edgetpu", True)
    fault("")
    code, told = call(capfd, *use)
    assert (code, told["runtime"], len(caplog.records)) == (0, "edgetpu", 1)
    code, told = call(capfd, *use, "--variant", "float32")
    assert (code, told["reason"]) == (2, "not_compiled")
