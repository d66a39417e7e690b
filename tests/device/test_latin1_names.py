"""Names that are no UTF-8, as of a USB stick written in Latin-1: every command works, and JSON stays JSON."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from edge_oneshot_device import cli
from edge_oneshot_device.gallery.keys import create_key
from tests.samples.tiny import MakeBundle, People

ODD = os.fsdecode(b"caf\xe9")
SPELT = "caf\\udce9"


@pytest.fixture
def folder(tmp_path: Path, make_bundle: MakeBundle, people: People, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of such a name, and in it a bundle, images, a key and a staff, each of such a name."""
    found = tmp_path / ODD
    found.mkdir()
    make_bundle().rename(found / f"{ODD}.oneshot")
    for name, images in people.items():
        (found / f"{name} {ODD}.png").write_bytes(images[0])
    (found / "staff" / "alan").mkdir(parents=True)
    (found / "staff" / "alan" / f"{ODD}.png").write_bytes(people["alan"][1])
    (found / "staff" / f"{ODD}.png").write_bytes(people["edsger"][1])
    create_key(found / f"{ODD}.key")
    monkeypatch.setenv("EDGE_ONESHOT_STATE", str(found / f"state {ODD}"))
    monkeypatch.setenv("EDGE_ONESHOT_KEY", str(found / f"{ODD}.key"))
    monkeypatch.chdir(found)
    return found


LINES = (
    (0, "init ODD.oneshot --target-far 0.05"),
    (0, "enrol ada 'ada ODD.png'"),
    (1, "enrol --folder staff"),
    (0, "identify 'ada ODD.png'"),
    (1, "identify 'stranger ODD.png'"),
    (2, "identify absent-ODD.png"),
    (0, "verify ada 'ada ODD.png'"),
    (0, "people"),
    (0, "access ada --valid-until 2040-01-01"),
    (0, "audit"),
    (0, "audit --check"),
    (0, "audit --head"),
    (0, "audit --export"),
    (0, "backup backup-ODD"),
    (0, "people export people-ODD --transfer-key transfer-ODD"),
    (0, "people import people-ODD --transfer-key transfer-ODD"),
    (2, "people export 'state ODD/x'"),
    (0, "rotate-key"),
    (0, "backup backup-ODD"),
    (0, "rotate-key --new-key new-ODD"),
    (0, "doctor --key new-ODD"),
    (2, "rotate-key --new-key new-ODD --key new-ODD"),
    (0, "restore backup-ODD --key new-ODD --backup-key ODD.key"),
    (2, "unlock nobody --key new-ODD"),
    (0, "forget ada --key new-ODD"),
    (0, "init ODD.oneshot --key new-ODD"),
    (0, "rollback --key new-ODD"),
    (3, "people"),
    (0, "inspect ODD.oneshot"),
    (0, "inspect ODD.oneshot ODD.oneshot"),
    (0, "bench ODD.oneshot --runs 5"),
    (2, "bench ODD.oneshot --image absent-ODD"),
    (2, "identify 'ada ODD.png' --state absent-ODD"),
    (2, "init absent-ODD.oneshot --key new-ODD"),
    (2, "init ODD.oneshot --trust ODD.oneshot --key new-ODD"),
)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.usefixtures("folder")
def test_every_command_ends_as_it_would_with_any_other_name(as_json: bool, capfd: pytest.CaptureFixture[str]) -> None:
    spelt = 0
    for expected, line in LINES:
        words = [word.replace("ODD", ODD) for word in shlex.split(line)]
        code = cli.main([*words, *(["--json"] if as_json else [])])
        out, err = capfd.readouterr()
        assert code == expected, f"{line}: {code}: {out}{err}"
        for text in (out, err):
            text.encode()  # is UTF-8
            for one in text.splitlines() if as_json else ():
                json.loads(one)
        spelt += (json.dumps(SPELT)[1:-1] if as_json else SPELT) in out + err
    assert spelt > 12


def test_a_name_of_a_person_that_is_no_utf_8_is_refused_and_spelt_out(folder, capfd):
    assert cli.main(["init", f"{ODD}.oneshot"]) == 0
    capfd.readouterr()
    assert cli.main(["enrol", ODD, f"ada {ODD}.png", "--json"]) == 2
    assert json.loads(capfd.readouterr().err)["reason"] == "bad_name"
    assert cli.main(["enrol", "--folder", "staff", "--json"]) == 1
    staff = json.loads(capfd.readouterr().out)
    assert [(one["person"], one["reason"]) for one in staff["refused"]] == [(SPELT, "bad_name")]
    assert [one["person"] for one in staff["enrolled"]] == ["alan"]
    assert folder.exists()


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_program_itself_takes_and_prints_such_names(folder: Path, encoding: str) -> None:
    cli_of = [sys.executable, "-m", "edge_oneshot_device.cli"]
    done = subprocess.run(
        [*cli_of, "init", f"{ODD}.oneshot", "--json"],
        capture_output=True,
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    found = json.loads(done.stdout.decode())
    assert found["state"].endswith(f"state {SPELT}")
    assert found["key"].endswith(f"{SPELT}.key")


@pytest.mark.parametrize(("stdout", "code", "err"), [("/dev/full", 4, b"No space left on device\n"), (None, 141, b"")])
def test_a_backup_that_cannot_be_told_was_made_all_the_same(folder, stdout, code, err):
    assert cli.main(["init", f"{ODD}.oneshot"]) == 0
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") if stdout is None else open(stdout, "wb") as out:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "edge_oneshot_device.cli", "backup", ODD],
            stdout=out, stderr=subprocess.PIPE, check=False, cwd=folder,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, err)
    assert (folder / ODD).read_bytes().startswith(b"SQLite format 3")
