import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.recognition import installation
from edge_oneshot_device.recognition.staff import enrol_folder

MakeBundle = Callable[..., Path]
People = dict[str, tuple[bytes, ...]]


@pytest.fixture
def state(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    installation.install(make_bundle(), tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def recognizer(state: Path) -> Iterator[Recognizer]:
    with Recognizer.open(state) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path, people: People) -> Path:
    """A file for ada, a folder for alan and for grace."""
    staff = tmp_path / "staff"
    for name in ("alan", "grace"):
        (staff / name).mkdir(parents=True)
        for index, image in enumerate(people[name][:2]):
            (staff / name / f"{index}.png").write_bytes(image)
    (staff / "ada.png").write_bytes(people["ada"][0])
    return staff


def names(recognizer: Recognizer) -> dict[str, int]:
    return {person.person: person.templates for person in recognizer.people()}


def test_a_file_or_a_folder_is_a_person(recognizer: Recognizer, folder: Path) -> None:
    (folder / ".hidden.png").write_bytes(b"not looked at")
    (folder / "alan" / ".DS_Store").write_bytes(b"nor this")
    steps: list[tuple[int, int]] = []
    staff = enrol_folder(recognizer, folder, lambda done, total: steps.append((done, total)))
    assert staff.folder == str(folder)
    assert [(one.person, one.templates, one.reason) for one in staff.enrolled] == [
        ("ada", 1, "enrolled"),
        ("alan", 2, "enrolled"),
        ("grace", 2, "enrolled"),
    ]
    assert (staff.skipped, staff.refused) == ([], [])
    assert names(recognizer) == {"ada": 1, "alan": 2, "grace": 2}
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_called_again_it_goes_on_where_it_was_interrupted(
    recognizer: Recognizer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol = Gallery.enrol

    def fail_at_alan(gallery: Gallery, person: str, *arguments: object, **keywords: object) -> object:
        if person == "alan":
            raise MachineError("the disk is full", reason="disk_full")
        return enrol(gallery, person, *arguments, **keywords)  # type: ignore[arg-type]

    monkeypatch.setattr(Gallery, "enrol", fail_at_alan)
    with pytest.raises(MachineError):
        enrol_folder(recognizer, folder)
    assert names(recognizer) == {"ada": 1}
    monkeypatch.undo()
    staff = enrol_folder(recognizer, folder)
    assert (staff.skipped, [one.person for one in staff.enrolled]) == (["ada"], ["alan", "grace"])
    assert enrol_folder(recognizer, folder).skipped == ["ada", "alan", "grace"]


def test_who_is_refused_is_listed_with_the_reason_and_the_others_are_enrolled(
    recognizer: Recognizer, folder: Path, people: People
) -> None:
    (folder / "notes.txt").write_text("buy milk")
    (folder / "nobody").mkdir()
    (folder / "grace" / "bad.png").write_bytes(b"no image")
    (folder / "many").mkdir()
    for index in range(6):
        (folder / "many" / f"{index}.png").write_bytes(people["edsger"][index])
    (folder / "poison").mkdir()
    for index, image in enumerate((people["edsger"][0], people["edsger"][1], people["ada"][1])):
        (folder / "poison" / f"{index}.png").write_bytes(image)
    (folder / "gone.png").symlink_to(folder / "absent.png")
    os.mkfifo(folder / "pipe")
    staff = enrol_folder(recognizer, folder)
    assert {one.person: one.reason for one in staff.refused} == {
        "gone": "not_found",
        "grace": "not_an_image",
        "many": "too_many_templates",
        "nobody": "wrong_use",
        "notes": "not_an_image",
        "pipe": "not_a_file",
        "poison": "fits_another",
    }
    assert all(one.error and "\n" not in one.error for one in staff.refused)
    assert "bad.png" in next(one.error for one in staff.refused if one.person == "grace")
    assert names(recognizer) == {"ada": 1, "alan": 2}
    # put right, and again
    (folder / "grace" / "bad.png").unlink()
    assert [one.person for one in enrol_folder(recognizer, folder).enrolled] == ["grace"]


def test_a_person_twice_in_a_folder_is_told(recognizer: Recognizer, folder: Path, people: People) -> None:
    (folder / "ada.jpg").write_bytes(people["ada"][1])
    staff = enrol_folder(recognizer, folder)
    assert [(one.person, one.reason) for one in staff.refused] == [("ada", "already_enrolled")]
    assert names(recognizer)["ada"] == 1


def test_a_person_under_two_names_is_noticed(recognizer: Recognizer, folder: Path, people: People) -> None:
    (folder / "countess.png").write_bytes(people["ada"][1])
    staff = enrol_folder(recognizer, folder)
    resembling = {one.person: one.resembles.person for one in staff.enrolled if one.resembles is not None}
    assert resembling == {"countess": "ada"}


def test_names_are_kept_as_they_are_written_and_known_in_any_normal_form(
    recognizer: Recognizer, tmp_path: Path, people: People
) -> None:
    folder = tmp_path / "staff"
    folder.mkdir()
    (folder / "Zoe\u0308 v. d. Berg.png").write_bytes(people["ada"][0])
    assert [one.person for one in enrol_folder(recognizer, folder).enrolled] == ["Zo\u00eb v. d. Berg"]
    assert enrol_folder(recognizer, folder).skipped == ["Zo\u00eb v. d. Berg"]


def test_names_that_cannot_be_printed_are_refused_and_spelt_out(
    state: Path, folder: Path, people: People, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "a\x1b[31mb.png").write_bytes(people["edsger"][0])
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(people["edsger"][0])
    (folder / "alan" / "\x1b]0;x\x07.png").write_bytes(b"no image")
    assert cli.main(["enrol", "--folder", str(folder), "--state", str(state), "--json"]) == 1
    staff = json.loads(capfd.readouterr().out)
    assert [(one["person"], one["reason"]) for one in staff["refused"]] == [
        ("a\\x1b[31mb", "bad_name"),
        ("alan", "not_an_image"),
        ("\\udcff", "bad_name"),
    ]
    assert [one["person"] for one in staff["enrolled"]] == ["ada", "grace"]
    assert cli.main(["enrol", "--folder", str(folder), "--state", str(state)]) == 1
    printed = capfd.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert printed.startswith("enrolled 0, enrolled already 2, refused 3\n")


@pytest.mark.parametrize(("made", "reason"), [("", "not_found"), ("file", "not_found"), ("folder", "empty_folder")])
def test_a_folder_that_is_none_or_empty_is_refused(
    recognizer: Recognizer, tmp_path: Path, made: str, reason: str
) -> None:
    path = tmp_path / "elsewhere"
    if made == "file":
        path.write_bytes(b"")
    elif made == "folder":
        path.mkdir()
        (path / ".keep").write_bytes(b"")
    with pytest.raises(InputError) as refused:
        enrol_folder(recognizer, path)
    assert refused.value.reason == reason


# the command


def test_the_command_ends_with_1_when_somebody_was_refused_and_with_0_otherwise(
    state: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["enrol", "--folder", str(folder), "--state", str(state)]
    (folder / "bad.png").write_bytes(b"no image")
    assert cli.main(arguments) == 1
    printed = capfd.readouterr()
    head, refused, outlook = printed.out.splitlines()
    assert head == "enrolled 3, enrolled already 0, refused 1"
    assert refused.startswith("refused  bad  not_an_image: ")
    assert outlook.startswith("with 3 people enrolled, about ")
    assert printed.err == ""  # no progress where nobody watches
    (folder / "bad.png").unlink()
    assert cli.main(arguments) == 0
    assert capfd.readouterr() == ("enrolled 0, enrolled already 3, refused 0\n", "")


@pytest.mark.parametrize("more", [["ada"], ["--add"], ["--replace"], ["--hours", "mon 07:00-19:00"]])
def test_a_folder_goes_alone(state: Path, folder: Path, more: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["enrol", *more, "--folder", str(folder), "--state", str(state), "--json"]) == 2
    assert json.loads(capfd.readouterr().err)["reason"] == "wrong_use"


def test_progress_is_shown_on_a_terminal_and_nothing_of_it_in_the_result(
    state: Path, folder: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "edge_oneshot_device.cli", "enrol", "--folder", str(folder), "--state", str(state)]
    ours, theirs = pty.openpty()
    with (tmp_path / "result").open("wb") as result:
        running = subprocess.Popen([*command, "--json"], stdin=subprocess.DEVNULL, stdout=result, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # nobody writes to it any more
            break
    os.close(ours)
    assert running.wait() == 0
    assert shown.endswith(b"\r" + b"#" * 30 + b" 3 of 3 enrolled\r\n")
    assert len(json.loads((tmp_path / "result").read_text())["enrolled"]) == 3
