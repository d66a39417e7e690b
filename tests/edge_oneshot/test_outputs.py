"""The workstation's outputs: no command writes over what it reads, or over what cannot be made again."""

import contextlib
import json
import os
import shutil
import stat
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_oneshot import cli, commands
from edge_oneshot.errors import TrainingError
from edge_oneshot.training.options import TrainOptions
from edge_oneshot.training.train import train
from edge_oneshot_device import console
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.keys import create_key
from edge_oneshot_export.edgetpu import compiler
from edge_oneshot_export.packing.signing import generate_key
from tests import MODELS
from tests.raising import raises
from tests.samples.folders import content_of

# every option of every command that names a file or folder, by what it is to the command
OUTPUTS = {
    ("demo", "out"), ("train", "out"), ("export", "out"), ("export", "report"), ("calibrate", "out"),
    ("evaluate", "figure"), ("keygen", "out"), ("deploy", "out"),
}  # fmt: skip
INPUTS = {
    ("train", "data"), ("train", "start"), ("train", "data_dir"),
    ("export", "run"), ("export", "model"), ("export", "data"), ("export", "sign"), ("export", "data_dir"),
    ("export", "weights"),
    ("calibrate", "bundle"), ("calibrate", "data"), ("calibrate", "sign"), ("calibrate", "data_dir"),
    ("evaluate", "bundle"), ("evaluate", "data"), ("evaluate", "data_dir"),
    ("preflight", "model"), ("inspect", "bundle"), ("inspect", "other"), ("deploy", "bundle"), ("deploy", "trust"),
    ("deploy", "door"),
}  # fmt: skip
NEITHER = {
    "demo": "door speech seed",
    "train": "resume minutes images seed size embedding batch held_out augment learning_rate orientations views "
    "framing net objective precision faces strategy tensorboard",
    "export": "pretrained variants mean scale size output faces metric anyway target_far",
    "calibrate": "target_far",
    "evaluate": "protocol variant runtime beside ways episodes seed",
    "inspect": "all",
    "completion": "shell",
    "deploy": "machine python host variant runtime allow_cpu target_far re_enrol empty",
}

# A line for each output: OUT stands for it. What else is read lies in the folder and holds nothing that would do, so
# that a refusal for another reason than the output shows.
LINES = {
    ("train", "out"): "train people --out OUT --images 64",
    ("export", "out"): "export --model in.tflite in.onnx --data people --sign sign.key --report in.html --out OUT",
    ("export", "report"): "export --model in.tflite --data people --sign sign.key --out new.oneshot --report OUT",
    ("calibrate", "out"): "calibrate in.oneshot --data people --sign sign.key --out OUT",
    ("evaluate", "figure"): "evaluate in.oneshot --data people --protocol random --figure OUT",
    ("keygen", "out"): "keygen --out OUT",
    ("deploy", "out"): "deploy in.oneshot --trust sign.key.pub --out OUT",
}
SUFFIX = {
    ("export", "out"): ".oneshot", ("calibrate", "out"): ".oneshot", ("export", "report"): ".html",
    ("evaluate", "figure"): ".png",
}  # fmt: skip
NEVER = ("sign.key", "gallery.key", "state/gallery.db")  # replaced by nothing, whether it is read or not


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the commands read, which is as it was afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGE_ONESHOT_KEY", str(tmp_path / "gallery.key"))
    generate_key("sign.key")
    for person in ("ada", "grace"):
        Path("people", person).mkdir(parents=True)
        for number in (1, 2):
            Path("people", person, f"{number}.png").write_bytes(b"an image")
    for name in ("in.oneshot", "in.tflite", "in.onnx", "in.html"):
        Path(name).write_bytes(name.encode())
    create_key(Path("gallery.key"))
    Path("state", "bundles").mkdir(parents=True)
    Path("state", "bundles", f"door-{'0' * 12}.oneshot").write_bytes(b"a bundle")
    Path("state", "gallery.db").write_bytes(b"SQLite format 3\0 and so on")
    return tmp_path


def places(line: str, suffix: str) -> dict[str, Path]:
    """Every path that a command may not write to, by a word for it, under a name that it would take."""
    Path("bad").mkdir()
    found: dict[str, Path] = {}

    def add(word: str) -> Path:
        found[word] = Path("bad", f"{len(found)}{suffix}")
        return found[word]

    for name in {*NEVER, *(word for word in line.split() if Path(word).is_file())}:
        if Path(name).suffix == suffix or not suffix:
            found[name] = Path(name)
        add(f"a hard link to {name}").hardlink_to(name)
        add(f"a link to {name}").symlink_to(Path(name).resolve())
    os.mkfifo(add("a pipe"))
    add("a folder").mkdir()
    add("a dangling link").symlink_to("nowhere")
    found["a bundle of the state"] = Path("state", "bundles", f"door-{'0' * 12}.oneshot").with_suffix(
        suffix or ".oneshot"
    )
    found["a new file in the state"] = Path("state", f"new{suffix}")
    with contextlib.suppress(PermissionError):  # root alone makes devices; not the real /dev/null, should this fail
        os.mknod(add("a device"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    return found


def run(capfd: pytest.CaptureFixture[str], line: str, out: Path) -> tuple[int, str]:
    words = [str(out) if word == "OUT" else word for word in line.split()]
    code = cli.main([*words, "--json"])
    return code, json.loads(capfd.readouterr().err.splitlines()[-1])["reason"]


@pytest.mark.parametrize("option", [one for one in LINES if one[0] not in ("train", "keygen")], ids="-".join)
def test_no_output_takes_the_place_of_an_input_or_of_what_cannot_be_made_again(option, folder, capfd):
    bad = places(LINES[option], SUFFIX.get(option, ""))
    before = content_of(folder)
    told = {word: run(capfd, LINES[option], path) for word, path in bad.items()}
    assert {word: answer for word, answer in told.items() if answer != (2, "bad_output")} == {}
    assert content_of(folder) == before


def test_a_key_pair_takes_no_place_at_all(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = places(LINES["keygen", "out"], "")
    before = content_of(folder)
    for word, path in bad.items():
        reason = "bad_output" if path.parts[0] == "state" else "key_exists"
        assert run(capfd, LINES["keygen", "out"], path) == (2, reason), word
    assert content_of(folder) == before


@pytest.mark.usefixtures("folder")
def test_the_two_outputs_of_an_export_are_two_files(capfd: pytest.CaptureFixture[str]) -> None:
    Path("one.oneshot").write_bytes(b"x")
    Path("two.html").hardlink_to("one.oneshot")
    line = "export --model in.tflite --data people --out one.oneshot --report OUT"
    assert run(capfd, line, Path("two.html")) == (2, "bad_output")


def test_an_image_of_the_data_is_not_drawn_over(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = content_of(folder)
    assert run(capfd, LINES["evaluate", "figure"], Path("people/ada/1.png")) == (2, "bad_output")
    assert content_of(folder) == before


@pytest.mark.parametrize("where", ["people", "people/run", "state", "state/run", "in.html", "link", "people/ada"])
def test_a_run_lies_apart_from_its_data_and_from_every_state(folder, where, capfd):
    Path("link").symlink_to("in.html")
    before = content_of(folder)
    assert run(capfd, LINES["train", "out"], Path(where)) == (2, "bad_output")
    assert content_of(folder) == before


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["encoder.keras", "checkpoint.npz", "history.jsonl"])
def test_a_file_that_looks_like_that_of_a_run_is_not_trained_over(name: str) -> None:
    Path("mine").mkdir()
    Path("mine", name).write_bytes(b"twenty hours of training")
    with raises(TrainingError, match=f"mine: holds {name} already", reason="run_exists"):
        train("glyphs", "mine", TrainOptions(images=64))
    assert Path("mine", name).read_bytes() == b"twenty hours of training"


def test_a_run_may_be_called_like_the_data_set_that_it_is_trained_on(folder: Path) -> None:
    (folder / "glyphs").mkdir()
    for name in ("glyphs", "omniglot", "glyphs+omniglot"):
        assert commands._data_path(name) is None
    assert commands._data_path("./glyphs") == "./glyphs"


@pytest.mark.parametrize("where", ["state", "in.html", "state/demo", "link"])
def test_a_demo_is_not_made_in_a_state_folder_or_a_file(folder, where, capfd):
    Path("link").symlink_to("in.html")
    before = content_of(folder)
    assert run(capfd, "demo --out OUT", Path(where)) == (2, "bad_output")
    assert content_of(folder) == before


@pytest.mark.usefixtures("folder")
def test_the_compiler_is_not_run_for_a_file_that_may_not_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(MODELS / "tiny-int8.tflite", "model.tflite")
    monkeypatch.setattr(compiler, "compile_for_edgetpu", lambda *_, **__: pytest.fail("was compiled"))
    monkeypatch.setattr(compiler.shutil, "which", lambda _: "/usr/bin/edgetpu_compiler")
    Path("model_edgetpu.tflite").hardlink_to("model.tflite")
    with pytest.raises(InputError, match="also reads or writes"):
        compiler.check("model.tflite")
    Path("model_edgetpu.tflite").unlink()
    Path("model_edgetpu.tflite").symlink_to("elsewhere")
    with pytest.raises(InputError, match="is a link"):
        compiler.check("model.tflite")


def test_it_is_known_of_every_option_whether_it_names_an_output() -> None:
    options = set()
    (chosen,) = (action for action in cli.make_parser()._actions if isinstance(action.choices, dict))
    for name, parser in chosen.choices.items():
        assert isinstance(parser, console.Parser)
        options |= {(name, action.dest) for action in parser._actions if action.dest not in ("help", "json")}
    neither = {(command, name) for command, names in NEITHER.items() for name in names.split()}
    assert options == OUTPUTS | INPUTS | neither, "classify the new option, and try it above if it names an output"
    assert OUTPUTS - {("demo", "out")} == LINES.keys()


@pytest.mark.usefixtures("folder")
def test_an_output_is_looked_at_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow alone takes seconds to import, and a conversion minutes."""
    monkeypatch.setattr(commands, "_import_tensorflow", lambda: pytest.fail("was imported"))
    for out, reason in (("state/new.oneshot", "bad_output"), ("missing/new.oneshot", "no_folder")):
        arguments = cli.make_parser().parse_args(["export", "run", "--out", out])
        assert isinstance(arguments, Namespace)
        with raises(InputError, reason=reason):
            commands.export(arguments)
