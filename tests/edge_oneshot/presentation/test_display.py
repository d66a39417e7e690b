import contextlib
import io
import re

import pytest
from rich.console import Console

from edge_oneshot.demo.stages import StageClock
from edge_oneshot.presentation import progress
from edge_oneshot.training.loop import TrainingProgress

NOW = TrainingProgress(
    done=0.4321, images=1_234_567, loss=12.345, images_per_second=12_345.6, seconds_left=75_000.0, accuracy=0.9876
)


def terminal(width):
    return Console(file=io.StringIO(), force_terminal=True, width=width, legacy_windows=False)


def lines(console):
    """What was drawn, frame by frame: lines without what steers the terminal."""
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())
    return [line.rstrip() for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.fixture(params=[40, 60, 80, 120])
def console(request, monkeypatch):
    made = terminal(request.param)
    monkeypatch.setattr(progress, "_console", lambda _: contextlib.nullcontext(made))
    monkeypatch.setattr(progress, "Console", lambda **_: made)
    return made


def test_the_bar_of_a_training_keeps_to_one_line(console):
    with progress.training_progress() as report:
        report(NOW)
    drawn = lines(console)
    assert all(line.startswith("training") for line in drawn)
    assert all(len(line) <= console.width for line in drawn)
    assert "43%" in drawn[-1]
    if console.width >= 60:
        assert "1250:00 left" in drawn[-1]
    if console.width >= 80:
        assert "loss 12.345" in drawn[-1]


def test_the_bars_of_a_demo_keep_to_a_line_each(console):
    with progress.demo_progress(("train", "export")) as watch:
        clock = StageClock(watch)
        clock.start("train", "x" * 150)
        clock.start("export", "onnx-float16: measuring drift")
        clock.stop()
    drawn = lines(console)
    assert all(line.startswith(("train", "export")) for line in drawn)
    assert all(len(line) <= console.width for line in drawn)


def test_an_evaluation_says_what_it_is_at(console):
    with progress.evaluation_progress() as report:
        report("judging [sic]", 12_345)
    drawn = lines(console)
    assert any("judging [sic]: 12,345 images" in line for line in drawn)
    assert all(len(line) <= console.width for line in drawn)


def test_an_evaluation_without_a_terminal_says_its_steps_and_not_each_image(capfd):
    with progress.evaluation_progress() as report:
        report("loading the data", 0)
        for count in range(1, 100):
            report("judging", count)
    assert capfd.readouterr().err.splitlines() == ["loading the data", "judging: 1 image"]


def test_nothing_is_printed_beside_json_where_there_is_no_terminal(capfd):
    with progress.evaluation_progress(as_json=True) as report:
        report("loading the data", 0)
    with progress.step_progress(as_json=True) as report:
        report("converting")
    with progress.training_progress(as_json=True) as report:
        report(NOW)
    with progress.demo_progress(("train",), as_json=True) as watch:
        clock = StageClock(watch)
        clock.start("train", "x")
        clock.stop()
    assert capfd.readouterr() == ("", "")
