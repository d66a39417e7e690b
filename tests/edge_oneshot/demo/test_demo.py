import contextlib
import io
import json
import os
import shlex
import sys
import time
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from edge_oneshot.data import glyphs
from edge_oneshot.demo import demo as demos
from edge_oneshot.demo import drawings
from edge_oneshot.demo.drawings import DRAWINGS
from edge_oneshot.demo.stages import StageClock
from edge_oneshot.errors import TrainingError
from edge_oneshot.presentation.demo_result import demo_text
from edge_oneshot.presentation.progress import demo_progress
from edge_oneshot.training import train as training
from edge_oneshot.training.run_folder import held
from edge_oneshot.training.runs import Run
from edge_oneshot_device import Bundle, Recognizer, cli, console
from edge_oneshot_device.errors import MachineError
from edge_oneshot_device.text import spelt_out
from edge_oneshot_export import measurement
from edge_oneshot_export.errors import ExportError, ModelError
from edge_oneshot_export.judging import drift
from edge_oneshot_export.variants import VARIANTS
from tests.raising import raises

ALPHABETS = 4
DEMO = ("int8", *(name for name in VARIANTS if name != "int8"))
IMAGES = 4800
SMALL = {"recipe": msgspec.structs.replace(DRAWINGS.recipe, images=IMAGES, size=16)}


@pytest.fixture(scope="module", autouse=True)
def little(quick):
    """Four alphabets in place of 24, two to train on, and few tasks, so that a demo takes seconds."""
    quick.setitem(glyphs.load_glyphs.__kwdefaults__, "alphabets", ALPHABETS)
    quick.setattr(drawings, "FRESH_ALPHABETS", 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A demo after a training of seconds: its folder, result and stages."""
    out = tmp_path_factory.mktemp("demo") / os.fsdecode(b"a d\xe9mo")  # no UTF-8
    stages = []
    return out, demos.demo(out, progress=stages.append, **SMALL), stages


@pytest.fixture(scope="module")
def remade(made):
    """Another demo in the folder of the first, with an onnx-int8 beyond its bound: both results."""
    out, first, _ = made
    (out / "state" / "mine.txt").write_text("mine")
    (out / "mine.txt").write_text("mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train", trained_before(out / "run"))
        patch.setattr(measurement, "gate", failing("onnx-int8"))
        return first, demos.demo(out, **SMALL)


def trained_before(run):
    """In place of a training: puts a copy of a run that is there into an empty folder."""
    files = {path.name: path.read_bytes() for path in run.iterdir()}

    def train(_data, out, *_, **__):
        assert not out.exists() or not list(out.iterdir())
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
        return Run.open(out)

    return train


def failing(variant, gate=drift.gate):
    """A gate that one variant never passes."""
    return lambda kind, measured: "too far" if kind.name == variant else gate(kind, measured)


def test_a_demo_leaves_what_it_says(made):
    out, result, _ = made
    names = {path.name for path in out.iterdir()}
    assert names == {"run", "demo.oneshot", "images", "state", "key", "report.html", demos.MARKER}
    assert [row.variant for row in result.variants] == list(DEMO)
    assert result.left_out == ()
    bundle = Bundle.open(result.bundle)
    assert {variant.name for variant in bundle.manifest.variants} == {row.variant for row in result.variants}
    assert bundle.manifest.provenance.images_seen == result.images_seen == IMAGES
    assert result.accuracy[0].protocol == "within-alphabet"
    assert [one.ways for one in result.accuracy] == [2, 5, 10, 20, 2, 5, 10, 20, 40]
    assert result.variants[0].accuracy == result.accuracy[3]
    assert result.verification.people == 2 * glyphs.CHARACTERS


def test_a_variant_that_fails_its_gate_is_named_not_fatal(remade):
    _, result = remade
    assert [row.variant for row in result.variants] == [name for name in DEMO if name != "onnx-int8"]
    assert [left.variant for left in result.left_out] == ["onnx-int8"]
    assert all("onnx-int8: too far" in left.reason for left in result.left_out)
    assert "left out: onnx-int8" in demo_text(result, DRAWINGS)
    assert "too far" in Path(result.report).read_text()


def test_another_demo_replaces_the_first_and_leaves_the_rest_alone(remade):
    first, second = remade
    out = Path(second.out)
    assert (out / "state" / "mine.txt").read_text() == "mine"
    assert (out / "mine.txt").read_text() == "mine"
    assert first.bundle == second.bundle
    kept = [variant.name for variant in Bundle.open(second.bundle).manifest.variants]
    assert kept == [name for name in VARIANTS if name != "onnx-int8"]
    assert [step.exit_code for step in second.session if " enrol " in step.command] == [0] * 6
    assert len(list((out / "state" / "bundles").iterdir())) == 1


def test_the_result_is_json(made, capsys):
    _, result, _ = made
    console.print_result(result, True, "")
    plain = json.loads(capsys.readouterr().out)
    assert plain["bundle"] == spelt_out(result.bundle)
    assert plain["variants"][0]["drift"]["cosine_mean"] == result.variants[0].drift.cosine_mean
    assert plain["session"][0]["exit_code"] == 0


def test_the_stages_come_in_order_and_end(made):
    _, result, stages = made
    assert tuple(dict.fromkeys(stage.name for stage in stages)) == demos.STAGES
    assert [stage.name for stage in stages if stage.done == 1.0] == list(demos.STAGES)
    assert result.seconds.keys() == set(demos.STAGES)


def test_the_session_is_what_the_device_says_to_the_same_commands(made, capsys):
    _, result, _ = made
    assert all(step.exit_code in (0, 1) for step in result.session)
    enrolments = [step for step in result.session if " enrol " in step.command]
    assert [step.exit_code for step in enrolments] == [0] * 6
    last = result.session[-1]
    *_, image, _, state, _, key = shlex.split(last.command)
    assert cli.main(["identify", image, "--state", state, "--key", key]) == last.exit_code
    assert capsys.readouterr().out.strip() == last.output
    with Recognizer.open(result.state, key=result.key) as recognizer:
        assert [person.person for person in recognizer.people()] == ["ash", "birch", "cedar", "elm"]


def test_the_drawings_are_there_to_repeat_the_commands_with(made):
    _, result, _ = made
    paths = sorted(Path(result.samples).iterdir())
    assert len(paths) == 16
    for path in paths:
        with Image.open(path) as image:
            assert image.size == (glyphs.SIDE, glyphs.SIDE)
    used = {word for step in result.session for word in shlex.split(step.command) if word.endswith(".png")}
    assert {Path(word).name for word in used} < {path.name for path in paths}


def test_the_summary_is_a_table_with_the_report_and_what_to_try_next(made):
    _, result, _ = made
    lines = demo_text(result, DRAWINGS).splitlines()
    assert lines[0].split()[0] == "variant"
    assert lines[1].split()[0] == "int8"
    assert f"{result.variants[0].accuracy.accuracy:.1%}" in lines[1]
    assert f"report: {result.report}" in lines
    assert "edge-oneshot-device identify" in demo_text(result, DRAWINGS)


def test_the_report_repeats_the_figures_of_the_result(made):
    _, result, _ = made
    page = Path(result.report).read_text()
    assert f"{100 * result.accuracy[3].accuracy:.1f}\N{NO-BREAK SPACE}%" in page
    assert Bundle.open(result.bundle).sha256 in page
    assert "--protocol within-alphabet --ways 2,5,10,20" in page


def test_int8_beyond_its_bound_is_an_error_of_one_line(made, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", trained_before(made[0] / "run"))
    monkeypatch.setattr(measurement, "gate", failing("int8"))
    with pytest.raises(ExportError) as raised:
        demos.demo(tmp_path / "demo", **SMALL)
    assert raised.value.exit_code == 1
    assert "too far" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "demo" / "report.html").exists()


def test_an_encoder_that_learned_nothing_is_refused_in_one_line(made, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", trained_before(made[0] / "run"))
    monkeypatch.setitem(drift.COLLAPSED, "cosine", -1.0)
    with raises(ModelError, reason="collapsed") as raised:
        demos.demo(tmp_path / "demo", **SMALL)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "demo" / "demo.oneshot").exists()


@pytest.mark.parametrize("name", ["run", "demo.oneshot", "images", "state", "key", "report.html"])
def test_what_no_demo_made_is_not_touched(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "run.json").write_text("twenty hours of training")
    with raises(TrainingError, reason="not_a_demo") as raised:
        demos.demo(tmp_path)
    assert raised.value.exit_code == 2
    assert (tmp_path / name / "run.json").read_text() == "twenty hours of training"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_two_demos_in_one_folder_exclude_each_other(tmp_path):
    (tmp_path / demos.MARKER).write_text("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("of the demo that is at work")
    with held(tmp_path), pytest.raises(TrainingError) as raised:
        demos.demo(tmp_path)
    assert raised.value.reason == "run_busy"
    assert (tmp_path / "run" / "run.json").read_text() == "of the demo that is at work"


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=r"cannot write in .*file: ") as raised:
        demos.demo(tmp_path / "file")
    assert raised.value.exit_code == 4


def test_plain_lines_are_written_where_there_is_no_terminal(capsys):
    with demo_progress(("one", "two")) as watch:
        clock = StageClock(watch)
        clock.start("one", "beginning")
        clock.say("not worth a line of its own")
        clock.start("two", "going on [sic]")
        clock.stop()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "[1/2] one: beginning",
        "[1/2] one: done",
        "[2/2] two: going on [sic]",
        "[2/2] two: done",
    ]
    assert clock.seconds.keys() == {"one", "two"}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_on_a_terminal_stay_out_of_what_is_captured_meanwhile(monkeypatch):
    terminal, captured = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with demo_progress(("one", "two")) as watch:
        clock = StageClock(watch)
        clock.start("one", "half way [sic]")
        with contextlib.redirect_stderr(captured), contextlib.redirect_stdout(captured):
            time.sleep(0.3)  # long enough to be drawn a few times
            clock.say("nearly there")
        clock.stop()
    assert captured.getvalue() == ""
    assert "one" in terminal.getvalue()
    assert "half way [sic]" in terminal.getvalue()
    assert "two" not in terminal.getvalue()
