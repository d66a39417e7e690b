import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.encoding.sources import Picture
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.people import Enrolment
from edge_oneshot_device.gallery.roster import NewTemplates
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.image_files import PassedOver
from edge_oneshot_device.installation import installer
from edge_oneshot_device.recognition.folder_enrolment import Chosen, enrol_folder
from tests.raising import raises
from tests.samples.tiny import MakeBundle, People


@pytest.fixture
def state(make_bundle: MakeBundle, tmp_path: Path) -> Path:
    installer.install(make_bundle(), tmp_path / "state")
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
    assert (staff.skipped, staff.refused, staff.chosen) == ([], [], [])
    assert staff.passed_over == [PassedOver(".hidden.png", "litter"), PassedOver("alan/.DS_Store", "litter")]
    assert names(recognizer) == {"ada": 1, "alan": 2, "grace": 2}
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_called_again_it_goes_on_where_it_was_interrupted(recognizer, folder, monkeypatch):
    enrol = Gallery.enrol_templates

    def fail_at_alan(gallery: Gallery, new: NewTemplates, compared: TemplateCache) -> Enrolment:
        if new.person == "alan":
            raise MachineError("the disk is full", reason="disk_full")
        return enrol(gallery, new, compared)

    monkeypatch.setattr(Gallery, "enrol_templates", fail_at_alan)
    with pytest.raises(MachineError):
        enrol_folder(recognizer, folder)
    assert names(recognizer) == {"ada": 1}
    monkeypatch.undo()
    staff = enrol_folder(recognizer, folder)
    assert (staff.skipped, [one.person for one in staff.enrolled]) == (["ada"], ["alan", "grace"])
    assert enrol_folder(recognizer, folder).skipped == ["ada", "alan", "grace"]


def test_who_is_refused_is_listed_with_the_reason_and_the_others_are_enrolled(recognizer, folder, people):
    (folder / "grace" / "bad.png").write_bytes(b"no image")
    (folder / "poison").mkdir()
    for index, image in enumerate((people["edsger"][0], people["edsger"][1], people["ada"][1])):
        (folder / "poison" / f"{index}.png").write_bytes(image)
    (folder / "gone.png").symlink_to(folder / "absent.png")
    os.mkfifo(folder / "pipe.png")
    staff = enrol_folder(recognizer, folder)
    assert {one.person: one.reason for one in staff.refused} == {
        "gone": "not_found",
        "grace": "not_an_image",
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


def test_a_person_under_two_names_is_refused(recognizer: Recognizer, folder: Path, people: People) -> None:
    (folder / "countess.png").write_bytes(people["ada"][1])
    staff = enrol_folder(recognizer, folder)
    assert [(one.person, one.reason) for one in staff.refused] == [("countess", "already_known")]
    assert "would be taken for ada" in staff.refused[0].error
    assert "countess" not in names(recognizer)


def test_names_are_kept_as_they_are_written_and_known_in_any_normal_form(recognizer, tmp_path, people):
    folder = tmp_path / "staff"
    folder.mkdir()
    (folder / "Zoe\u0308 v. d. Berg.png").write_bytes(people["ada"][0])
    assert [one.person for one in enrol_folder(recognizer, folder).enrolled] == ["Zo\u00eb v. d. Berg"]
    assert enrol_folder(recognizer, folder).skipped == ["Zo\u00eb v. d. Berg"]


def test_names_that_cannot_be_printed_are_refused_and_spelt_out(state, folder, people, capfd):
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
    assert printed.startswith("enrolled 0, already enrolled 2, refused 3\n")


@pytest.mark.parametrize(("made", "reason"), [("", "not_found"), ("file", "not_found"), ("folder", "empty_folder")])
def test_a_folder_that_is_none_or_empty_is_refused(recognizer, tmp_path, made, reason):
    path = tmp_path / "elsewhere"
    if made == "file":
        path.write_bytes(b"")
    elif made == "folder":
        path.mkdir()
        (path / "notes.pdf").write_bytes(b"")
    with raises(InputError, reason=reason) as refused:
        enrol_folder(recognizer, path)
    if made == "folder":
        assert "has no image (left out 1: notes.pdf (no_image)): put an image of each person there" in str(
            refused.value
        )


LITTER = (
    "@eaDir/ada.jpg/SYNOPHOTO_THUMB_M.jpg", "$RECYCLE.BIN/S-1/desktop.ini", "lost+found/#1234", ".DS_Store",
    "Thumbs.db", "__MACOSX/._ada.png", ".Trash-1000/files/ada.png", "System Volume Information/x.png", "desktop.ini",
    "#recycle/ada.png", "ada.png.part",
)  # fmt: skip


def test_what_systems_leave_behind_becomes_nobody_and_is_named(recognizer: Recognizer, folder: Path) -> None:
    for name in LITTER:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no image")
    (folder / "alan" / "Thumbs.db").write_bytes(b"")
    (folder / "alan" / "@eaDir").mkdir()
    staff = enrol_folder(recognizer, folder)
    assert [one.person for one in staff.enrolled] == ["ada", "alan", "grace"]
    assert staff.refused == []
    assert {one.reason for one in staff.passed_over} == {"litter"}
    tops = {f"{name.split('/')[0]}/" if "/" in name else name for name in LITTER}
    assert {one.name for one in staff.passed_over} == tops | {"alan/Thumbs.db", "alan/@eaDir/"}


def test_what_is_no_image_becomes_nobody_and_is_named(recognizer: Recognizer, folder: Path, people: People) -> None:
    (folder / "handbook.pdf").write_bytes(b"%PDF-1.7")
    (folder / "nobody").mkdir()
    (folder / "papers").mkdir()
    (folder / "papers" / "contract.pdf").write_bytes(b"%PDF-1.7")
    (folder / "alan" / "notes.txt").write_text("buy milk")
    (folder / "alan" / "older").mkdir()
    (folder / "alan" / "older" / "9.png").write_bytes(people["alan"][2])
    staff = enrol_folder(recognizer, folder)
    assert [one.person for one in staff.enrolled] == ["ada", "alan", "grace"]
    assert staff.refused == []
    assert [(one.name, one.reason) for one in staff.passed_over] == [
        ("alan/notes.txt", "no_image"),
        ("alan/older/", "too_deep"),
        ("handbook.pdf", "no_image"),
        ("nobody/", "no_image"),
        ("papers/contract.pdf", "no_image"),
        ("papers/", "no_image"),
    ]


def test_a_picture_of_a_format_that_is_not_read_is_refused_and_not_passed_over(recognizer, folder):
    (folder / "edsger.HEIC").write_bytes(b"ftypheic")
    (folder / "tony.jfif").write_bytes(b"damaged")
    staff = enrol_folder(recognizer, folder)
    assert [(one.person, one.reason) for one in staff.refused] == [("edsger", "not_an_image"), ("tony", "not_an_image")]
    assert staff.passed_over == []


def test_of_more_images_than_are_possible_the_first_are_taken_by_name(recognizer, folder, people):
    (folder / "many").mkdir()
    for index in range(8):
        (folder / "many" / f"{index}.png").write_bytes(people["edsger"][index % 6])
    staff = enrol_folder(recognizer, folder)
    assert staff.refused == []
    assert names(recognizer)["many"] == recognizer.most_templates == 5
    assert staff.chosen == [Chosen("many", [f"{index}.png" for index in range(5)], 8, "order")]
    assert staff.passed_over == [PassedOver(f"many/{index}.png", "not_among_best") for index in (5, 6, 7)]


class FewFaces:
    """Rates photos by a table."""

    has_quality_limits = True

    def __init__(self, shares: dict[str, float]) -> None:
        self.shares = shares

    def rate(self, picture: Picture) -> float:
        photo = Path(picture.name)
        photo.write_bytes(b"another photo by now")
        if photo.stem not in self.shares:
            raise InputError(f"{photo.name} shows no face", reason="no_face")
        return self.shares[photo.stem]


def test_of_more_photos_of_a_face_the_best_are_taken_and_those_without_one_left_out(recognizer, tmp_path, monkeypatch):
    faces = FewFaces({"0": 0.9, "1": 0.2, "3": 0.5, "4": 0.1, "5": 0.8, "6": 0.5, "7": 0.95})
    photos = [tmp_path / f"{index}.jpg" for index in range(8)]
    for photo in photos:
        photo.write_bytes(photo.name.encode())
    monkeypatch.setattr(recognizer.encoder, "faces", faces)
    choice = recognizer.choose(photos)
    assert (choice.taken, choice.by) == ([4, 1, 3, 6, 5], "quality")
    # each was read once: what is enrolled is what was rated
    assert [one.content for one in choice.images if isinstance(one, Picture)] == [
        f"{place}.jpg".encode() for place in choice.taken
    ]
    assert choice.left == [(0, "not_among_best"), (2, "no_face"), (7, "not_among_best")]
    assert recognizer.choose(photos[:5]).taken == [0, 1, 2, 3, 4]  # all of them, or none, as ever
    faces.shares.clear()
    with raises(InputError, match=r"none of 8 images can be used; the first: 0\.jpg shows no face", reason="no_face"):
        recognizer.choose(photos)
    faces.has_quality_limits = False
    assert recognizer.choose(photos).by == "order"


# the command


def test_the_command_ends_with_1_when_somebody_was_refused_and_with_0_otherwise(state, folder, capfd):
    arguments = ["enrol", "--folder", str(folder), "--state", str(state)]
    (folder / "bad.png").write_bytes(b"no image")
    assert cli.main(arguments) == 1
    printed = capfd.readouterr()
    head, refused, outlook = printed.out.splitlines()
    assert head == "enrolled 3, already enrolled 0, refused 1"
    assert refused.startswith("refused  bad  not_an_image: ")
    assert outlook.startswith("with 3 people enrolled, about ")
    assert printed.err == ""  # no progress where nobody watches
    (folder / "bad.png").unlink()
    assert cli.main(arguments) == 0
    assert capfd.readouterr() == ("enrolled 0, already enrolled 3, refused 0\n", "")


@pytest.mark.parametrize(
    ("more", "words"), [(["ada"], "leave out ada"), (["--add"], "new people only"), (["--replace"], "PERSON")]
)
def test_what_a_folder_does_not_go_with_is_said(state, folder, more, words, capfd):
    assert cli.main(["enrol", *more, "--folder", str(folder), "--state", str(state), "--json"]) == 2
    error = json.loads(capfd.readouterr().err)
    assert error["reason"] == "wrong_use"
    assert words in error["error"]


def test_dates_and_hours_are_for_all_who_are_enrolled_from_a_folder(state, folder, people, capfd):
    with Recognizer.open(state) as recognizer:
        recognizer.enrol("ada", people["ada"][0])
    limits = ["--hours", "mon-fri 07:00-19:00", "--valid-until", "2030-12-31"]
    assert cli.main(["enrol", "--folder", str(folder), *limits, "--state", str(state)]) == 0
    with Recognizer.open(state) as recognizer:
        access = {one.person: (one.hours, one.valid_until) for one in recognizer.people()}
    assert access["ada"] == (None, None)  # enrolled already, and left as they were
    assert access["alan"] == access["grace"]
    assert access["alan"][0] == "mon-fri 07:00-19:00"
    assert access["alan"][1] is not None
    capfd.readouterr()
    assert cli.main(["enrol", "--folder", str(folder), "--hours", "never", "--state", str(state), "--json"]) == 2
    assert "--folder" not in json.loads(capfd.readouterr().err)["error"]


def test_the_command_says_which_images_were_taken_and_what_was_left_out(state, folder, people, capfd):
    (folder / "many").mkdir()
    for index in range(6):
        (folder / "many" / f"{index}.png").write_bytes(people["edsger"][index])
    (folder / "Thumbs.db").write_bytes(b"")
    (folder / "a\x1bb.pdf").write_bytes(b"")
    assert cli.main(["enrol", "--folder", str(folder), "--state", str(state)]) == 0
    printed = capfd.readouterr().out.splitlines()
    assert printed[:3] == [
        "enrolled 4, already enrolled 0, refused 0",
        "chosen  many  the first 5 of 6 images by name: 0.png, 1.png, 2.png, 3.png, 4.png",
        "left out 3: Thumbs.db (litter), a\\x1bb.pdf (no_image), many/5.png (not_among_best)",
    ]


def test_progress_is_shown_on_a_terminal_and_nothing_of_it_in_the_result(state, folder, tmp_path):
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
