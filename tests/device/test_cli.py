import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_oneshot_device
from edge_oneshot_device import Bundle, cli
from edge_oneshot_device.presentation.help_texts import GROUPS, HELP
from tests.samples.pictures import png
from tests.samples.tiny import MakeBundle, People, sign_bundle

PROGRAM = "edge-oneshot-device"
COMMANDS = ["init", "rollback", "enrol", "access", "verify", "identify", "people", "lookalikes", "forget", "unlock",
            "pin", "run", "door", "audit", "backup", "restore", "rotate-key", "doctor", "bench", "inspect"]  # fmt: skip
DECISION = ["person", "accepted", "score", "similarity", "threshold", "target_far", "kept_far", "runner_up", "reason",
            "provisional", "variant", "runtime", "fingerprint", "candidate", "retry_after", "fault", "likeness",
            "likeness_needed", "likeness_of_runner_up"]  # fmt: skip
ANSWER = ["person", "accepted", "reason", "target_far", "kept_far", "provisional", "retry_after", "fault"]
BENCH = {"init_ms", "warmup_first_ms", "warmup_avg_ms", "avg_ms", "min_ms", "max_ms", "median_ms", "std_ms", "p5_ms",
         "p95_ms", "num_runs", "num_threads", "model_size_mb", "p99_ms", "peak_rss_mb", "variant", "runtime",
         "board"}  # fmt: skip


@dataclass
class Program:
    """The real program in a process of its own, in a folder with images."""

    folder: Path

    def __call__(self, *arguments: str, code: int = 0, **environment: str) -> Any:
        """What it printed: on stdout when it ended with 0 or 1, else on stderr, nothing on the other."""
        done = subprocess.run(
            [sys.executable, "-m", "edge_oneshot_device.cli", *arguments],
            cwd=self.folder,
            env=os.environ | {"EDGE_ONESHOT_STATE": str(self.folder / "state")} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        printed, silent = (done.stdout, done.stderr) if code in (0, 1) else (done.stderr, done.stdout)
        assert silent == ""
        if code > 1:
            assert printed.count("\n") == 1
            assert "Traceback" not in printed
        return json.loads(printed) if "--json" in arguments else printed


@pytest.fixture
def program(tmp_path: Path, people: People) -> Program:
    for name, images in people.items():
        for index, content in enumerate(images[:3]):
            (tmp_path / f"{name}-{index}.png").write_bytes(content)
    return Program(tmp_path)


def test_from_init_to_forget_in_plain_words(program: Program, make_bundle: MakeBundle) -> None:
    make_bundle()
    installed = program("init", "tiny.oneshot", "--target-far", "0.05")
    assert re.search(r"^installed +tiny, [\d,]+ bytes$", installed, re.MULTILINE)
    assert re.search(r"^target FAR +5 %$", installed, re.MULTILINE)
    assert program("people") == "nobody is enrolled\n"
    assert program("enrol", "ada", "ada-0.png") == (
        "enrolled  ada  1 template\n"
        "with 1 person enrolled, about 50 of 1,000 strangers get in and 0.1 of 100 genuine attempts are rejected; "
        "the target FAR of 5 % holds for up to 50 people\n"
    )
    assert program("enrol", "ada", "ada-1.png", "--add").startswith("added  ada  2 templates\nwith 1 person enrolled, ")
    program("enrol", "grace", "grace-0.png")
    assert program("identify", "ada-2.png") == "accepted  ada\n"
    accepted = program("identify", "ada-2.png", "--scores")
    number = r"-?[\d.e-]+"
    assert re.fullmatch(
        rf"accepted  ada  likeness \d+ of 100, \d+ needed  \(score {number}, threshold {number}, "
        rf"runner-up grace with likeness \d+, target FAR 5 %\)\n",
        accepted,
    )
    told = "unknown  below_threshold  matches nobody enrolled"
    assert program("identify", "stranger-0.png", code=1) == f"{told}\n"
    unknown = program("identify", "stranger-0.png", "--scores", code=1)
    assert re.match(rf"{told}  likeness \d+ of 100, \d+ needed  \(score ", unknown)
    assert program("verify", "ada", "ada-2.png") == "accepted  ada\n"
    assert program("verify", "ada", "ada-2.png", "--scores").startswith("accepted  ada  likeness ")
    told = "rejected  below_threshold  does not match the person claimed"
    assert program("verify", "ada", "grace-2.png", code=1) == f"{told}\n"
    rejected = program("verify", "ada", "grace-2.png", "--scores", code=1)
    assert rejected.startswith(f"{told}  likeness ")
    head, *rows = program("people").splitlines()
    assert head.split() == ["person", "templates", "enrolled", "fingerprint"]
    assert [row.split()[:2] for row in rows] == [["ada", "2"], ["grace", "1"]]
    assert program("forget", "ada") == "forgotten  ada\n"
    assert program("identify", "ada-2.png", code=1).startswith("unknown  below_threshold")
    program("forget", "grace")
    assert program("identify", "ada-2.png", code=1) == "unknown  empty_gallery  nobody is enrolled\n"


def test_from_init_to_forget_in_json(program: Program, make_bundle: MakeBundle) -> None:
    manifest = Bundle.open(make_bundle()).manifest
    fingerprint = manifest.variants[0].fingerprint
    installed = program("init", "tiny.oneshot", "--json", "--target-far", "0.001")
    assert set(installed) >= {"name", "format", "variants", "fingerprints", "calibration", "signed_by", "bytes"}
    assert (installed["provisional"], installed["target_far"], installed["signed_by"]) == (True, 0.001, None)
    assert installed["fingerprints"]["int8"] == fingerprint
    enrolment = {
        "person": "ada", "templates": 1, "reason": "enrolled", "fingerprint": fingerprint, "resembles": None,
    }  # fmt: skip
    outlook = {
        "people": 1, "target_far": 0.001, "kept_far": 0.001, "most_people": 1, "provisional": True, "frr": 0.001,
    }  # fmt: skip
    assert program("enrol", "ada", "ada-0.png", "--json") == enrolment | {"outlook": outlook}
    answer = program("identify", "ada-1.png", "--json")
    assert answer == {
        "person": "ada", "accepted": True, "reason": "match", "target_far": 0.001, "kept_far": 0.001,
        "provisional": True, "retry_after": None, "fault": None,
    }  # fmt: skip
    assert list(answer) == ANSWER
    identified = program("identify", "ada-1.png", "--json", "--scores")
    assert list(identified) == DECISION
    assert (identified["person"], identified["accepted"], identified["reason"]) == ("ada", True, "match")
    assert (identified["runner_up"], identified["provisional"]) == (None, True)
    program("enrol", "grace", "grace-0.png")
    assert program("identify", "ada-1.png", "--json", "--scores")["runner_up"]["person"] == "grace"
    assert list(program("verify", "ada", "grace-1.png", "--json", code=1)) == ANSWER
    rejected = program("verify", "ada", "grace-1.png", "--json", "--scores", code=1)
    assert list(rejected) == DECISION
    assert (rejected["person"], rejected["accepted"], rejected["reason"]) == (None, False, "below_threshold")
    listed = program("people", "--json")
    assert [person["person"] for person in listed] == ["ada", "grace"]
    assert set(listed[0]) == {
        "person", "templates", "enrolled", "fingerprint", "valid_from", "valid_until", "hours",
    }  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", listed[0]["enrolled"])
    forgotten = enrolment | {"templates": 0, "reason": "forgotten", "outlook": None}
    assert program("forget", "ada", "--json") == forgotten
    program("forget", "grace")
    assert program("people", "--json") == []
    nobody = program("identify", "ada-1.png", "--json", "--scores", code=1)
    assert (nobody["score"], nobody["similarity"], nobody["reason"]) == (None, None, "empty_gallery")


def test_wrong_use_and_bad_input_end_with_2(program, make_bundle, monkeypatch, capfd):
    make_bundle()
    (program.folder / "blank.png").write_bytes(png(np.full((32, 32), 255, np.uint8)))
    (program.folder / "text.png").write_text("no image")
    assert "edge-oneshot-device init" in program("identify", "ada-0.png", code=2)
    program("init", "tiny.oneshot")
    program("enrol", "ada", "ada-0.png")
    assert "--replace" in program("enrol", "ada", "ada-1.png", code=2)
    # the rest in this process, for it takes a tenth of the time
    monkeypatch.chdir(program.folder)
    monkeypatch.setenv("EDGE_ONESHOT_STATE", "state")
    for arguments, reason in (
        (("enrol", "ada", "ada-1.png"), "already_enrolled"),
        (("enrol", "bob", "blank.png"), "no_content"),
        (("identify", "blank.png"), "no_content"),
        (("verify", "bob", "ada-0.png"), "not_enrolled"),
        (("forget", "bob"), "not_enrolled"),
        (("enrol", "", "ada-0.png"), "bad_name"),
        (("identify", "text.png"), "not_an_image"),
        (("identify", "absent.png"), "not_found"),
        (("init", "absent.oneshot"), "not_found"),
        (("init", "tiny.oneshot", "--target-far", "2"), "bad_target_far"),
        (("init", "tiny.oneshot", "--target-far", "few"), "wrong_use"),
        (("people", "--state", ""), "no_state_folder"),
        (("bench", "tiny.oneshot", "--variant", "coral"), "variant_missing"),
        (("bench", "tiny.oneshot", "--runs", "0"), "wrong_runs"),
        (("enrol", "bob", "ada-1.png", "--add", "--replace"), "wrong_use"),
        (("people", "--colour"), "wrong_use"),
        (("dance",), "wrong_use"),
        ((), "wrong_use"),
    ):
        assert cli.main([*arguments, "--json"]) == 2
        printed = capfd.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        told = json.loads(printed.err)
        assert set(told) == {"error", "reason"}
        assert told["reason"] == reason
    assert [person["person"] for person in program("people", "--json")] == ["ada"]


def test_an_altered_bundle_and_templates_of_another_encoder_end_with_3(program, make_bundle):
    make_bundle()
    make_bundle(name="other", min_contrast=17)
    program("init", "tiny.oneshot")
    program("enrol", "ada", "ada-0.png")
    assert program("init", "other.oneshot", "--json", code=3)["reason"] == "gallery_of_other_fingerprint"
    assert program("identify", "ada-1.png").startswith("accepted")
    (installed,) = (program.folder / "state" / "bundles").iterdir()
    content = bytearray(installed.read_bytes())
    content[len(content) // 2] ^= 1
    installed.write_bytes(content)
    assert program("identify", "ada-1.png", "--json", code=3)["reason"] == "bundle_altered"
    assert program("inspect", str(installed), code=3).count("\n") == 1
    (program.folder / "state" / "gallery.db").write_text("notes " * 1000)
    program("init", "tiny.oneshot", code=3)


def test_a_disk_that_cannot_be_written_ends_with_4(program: Program, make_bundle: MakeBundle) -> None:
    make_bundle()
    (program.folder / "state").write_text("a file in the way")
    assert program("init", "tiny.oneshot", "--json", code=4)["reason"] == "cannot_write"


def test_a_missing_runtime_ends_with_4_and_names_what_to_install(program: Program, make_bundle: MakeBundle) -> None:
    make_bundle()
    # an onnxruntime that cannot be imported stands before the real one, if there is one
    (program.folder / "onnxruntime.py").write_text("raise ModuleNotFoundError('onnxruntime')")
    told = program(
        "bench", "tiny.oneshot", "--variant", "onnx-float32", "--json", code=4, PYTHONPATH=str(program.folder)
    )
    assert told["reason"] == "runtime_missing"
    assert 'run: pip install "onnxruntime>=' in told["error"]


def test_bench_measures_a_bundle_without_a_state(program: Program, make_bundle: MakeBundle) -> None:
    make_bundle()
    result = program("bench", "tiny.oneshot", "--runs", "20", "--threads", "2", "--json")
    assert set(result) >= BENCH
    assert (result["num_runs"], result["num_threads"], result["variant"]) == (20, 2, "int8")
    assert 0 < result["min_ms"] <= result["p5_ms"] <= result["median_ms"] <= result["p99_ms"] <= result["max_ms"]
    text = program("bench", "tiny.oneshot", "--variant", "float32", "--runs", "3")
    assert "float32 on litert, 1 thread" in text
    assert "3 runs" in text
    assert not (program.folder / "state").exists()


def test_inspect_shows_a_bundle_on_one_screen_and_with_all_the_rest(program: Program, make_bundle: MakeBundle) -> None:
    path = make_bundle()
    bundle = Bundle.open(path)
    text = program("inspect", "tiny.oneshot")
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    for fact in ("8 x 8 grey to 16 values, cosine", "2026-01-01", bundle.sha256, "made up for tests", "inspect --all"):
        assert fact in text
    for variant in bundle.manifest.variants:
        assert f"{variant.fingerprint[:12]}\n" in text
        assert f"{variant.bytes:,}" in text
    text = program("inspect", "tiny.oneshot", "--all")
    for variant in bundle.manifest.variants:
        assert f"{variant.fingerprint[:12]}\n" in text
        assert f"{variant.bytes:,}" in text
    for fact in (
        "8 x 8 grey",
        "16 values, cosine",
        "2026-01-01",
        bundle.sha256,
        "weights: Apache-2.0",
        "made up for tests",
    ):
        assert fact in text
    told = program("inspect", "tiny.oneshot", "--json")
    assert (told["name"], told["format"], told["signed_by"], told["bytes"]) == ("tiny", 1, None, path.stat().st_size)
    assert told["variants"] == ["int8", "float32", "onnx-float32"]
    assert told["fingerprints"] == {v.name: v.fingerprint for v in bundle.manifest.variants}
    assert len(told["calibration"]) == 9
    assert {(c["variant"], c["templates"]) for c in told["calibration"]} >= {("int8", 1), ("int8", 3), ("int8", 5)}
    assert told["calibration"][0]["target_far"] == 0.01
    assert "wrong_use" in program("inspect", "tiny.oneshot", "tiny.oneshot", "--all", "--json", code=2)["reason"]
    make_bundle(calibrated=False)
    assert "uncalibrated" in program("inspect", "tiny.oneshot")
    assert program("inspect", "tiny.oneshot", "--json")["calibration"] == []


def test_inspect_of_two_shows_what_differs_and_whether_templates_carry_over(program, make_bundle):
    make_bundle()
    make_bundle(name="recalibrated", counts=(1, 3), seed=7)
    make_bundle(name="other", min_contrast=17)
    text = program("inspect", "tiny.oneshot", "recalibrated.oneshot")
    assert re.search(r"^ +A: tiny\.oneshot +B: recalibrated\.oneshot$", text, re.MULTILINE)
    assert re.search(r"^provenance\.seed +0 +7$", text, re.MULTILINE)
    assert re.search(r"^threshold of int8, best of 5 +0\.8160 for FAR 1 %.* -$", text, re.MULTILINE)
    assert "min_contrast" not in text
    assert "templates of A can be used with B: int8, float32, onnx-float32\n" in text
    text = program("inspect", "tiny.oneshot", "other.oneshot")
    assert re.search(r"^input\.min_contrast +16 +17$", text, re.MULTILINE)
    assert "templates of A cannot be used with B, so everybody has to enrol again: int8, float32" in text
    told = program("inspect", "tiny.oneshot", "other.oneshot", "--json")
    assert (told["a"]["name"], told["b"]["name"], told["same"]) == ("tiny", "other", False)
    assert {"field": "input.min_contrast", "a": 16, "b": 17} in told["differences"]
    assert told["templates"] == {"int8": [], "float32": [], "onnx-float32": []}
    assert program("inspect", "tiny.oneshot", "tiny.oneshot").endswith("are identical\n")
    assert program("inspect", "tiny.oneshot", "absent.oneshot", "--json", code=2)["reason"] == "not_found"


def test_a_device_that_trusts_a_key_takes_nothing_else(program, make_bundle, key, stranger, public_file):
    signed = sign_bundle(make_bundle(name="signed"), key)
    make_bundle(name="unsigned")
    sign_bundle(make_bundle(name="strange"), stranger)
    digits = key.public_key().public_bytes_raw().hex()
    installed = program("init", "signed.oneshot", "--trust", public_file(key).name)
    assert re.search(rf"^signed by +{digits}, trusted$", installed, re.MULTILINE)
    assert program("init", "unsigned.oneshot", "--json", code=3)["reason"] == "unsigned"
    assert program("init", "strange.oneshot", "--json", code=3)["reason"] == "untrusted_key"
    assert program("init", "signed.oneshot", "--trust", "signed.oneshot", "--json", code=2)["reason"] == "bad_key"
    assert program("init", "signed.oneshot", "--json")["signed_by"] == digits
    assert program("inspect", "signed.oneshot", "--json")["signed_by"] == digits
    assert re.search(rf"^signed by +{digits}$", program("inspect", "signed.oneshot"), re.MULTILINE)
    assert re.search(r"^signed by +nobody", program("inspect", "unsigned.oneshot"), re.MULTILINE)
    signed.write_bytes(signed.read_bytes()[:-1])
    program("enrol", "ada", "ada-0.png")
    assert program("identify", "ada-1.png").startswith("accepted")


def test_the_state_argument_comes_before_the_environment(program: Program, make_bundle: MakeBundle) -> None:
    make_bundle()
    program("init", "tiny.oneshot", "--state", "elsewhere")
    assert program("people", "--state", "elsewhere") == "nobody is enrolled\n"
    assert program("people", "--json", code=2)["reason"] == "not_initialised"


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert sorted(re.findall(r"^  ([a-z][\w-]+) ", shown, re.MULTILINE)) == sorted(COMMANDS)
    assert "look after the audit trail, keys and backups:" in shown
    assert "  2  wrong use or bad input" in shown
    assert max(map(len, shown.splitlines())) <= 80
    for command in COMMANDS:
        assert cli.main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: {PROGRAM} {command}")
        assert "--json" in shown
        assert f"examples:\n  {PROGRAM} {command}" in shown
        assert "exit codes:" in shown
        if "--key" in shown and "--state" in shown:
            assert "EDGE_ONESHOT_KEY_COMMAND" in shown
        assert ("--state" in shown) == (command not in ("bench", "inspect"))


def test_the_examples_of_the_help_are_understood() -> None:
    assert set(HELP) == set(cli._COMMANDS) == {name for names in GROUPS.values() for name in names}
    for text in HELP.values():
        for example in text.examples:
            words = shlex.split(example)
            assert cli.make_parser().parse_args(words).command is cli._COMMANDS[words[0]].run


def test_the_package_is_a_program_too() -> None:
    command = [sys.executable, "-m", "edge_oneshot_device"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{PROGRAM} {version(PROGRAM)}\n"
    assert edge_oneshot_device.__version__ == version(PROGRAM)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["enroll", "ada"], "unknown command 'enroll' (did you mean enrol?); see edge-oneshot-device --help"),
        (["delete", "ada"], "did you mean forget?"),
        (["rotatekey"], "did you mean rotate-key?"),
        (["xyzzy"], "choose from init, rollback, "),
        (["--state", "x", "enroll"], "did you mean enrol?"),
        (["--state"], "COMMAND"),
        (["--colour", "people"], "unrecognized arguments: --colour"),
        (["bench", "x", "--runs", "many"], "argument --runs: 'many' is not a whole number"),
        (["init", "x", "--target-far", "few"], "argument --target-far: 'few' is not a number"),
    ],
)
def test_wrong_words_are_told_with_what_may_have_been_meant(words, told, capsys):
    assert cli.main(words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("before", [["--state", "S"], ["--state=S"], ["--json", "--key", "K", "--state", "S"]])
def test_state_key_and_json_may_stand_before_the_command(before, make_bundle, tmp_path, capsys):
    words = [word.replace("S", str(tmp_path / "state")).replace("K", str(tmp_path / "key")) for word in before]
    assert cli.main([*words, "init", str(make_bundle())]) == 0
    assert (tmp_path / "state" / "gallery.db").exists()
    capsys.readouterr()
    assert cli.main([*words, "people"]) == 0
    assert capsys.readouterr().out == ("[]\n" if "--json" in before else "nobody is enrolled\n")


def test_one_of_a_thing_is_told_as_one(make_bundle, people, tmp_path, capsys):
    where = ["--state", str(tmp_path / "state")]
    assert cli.main(["init", str(make_bundle()), "--rejections-per-minute", "1", *where]) == 0
    for name in ("ada", "grace"):
        (tmp_path / f"{name}.png").write_bytes(people[name][0])
    assert cli.main(["enrol", "ada", str(tmp_path / "ada.png"), *where]) == 0
    assert cli.main(["verify", "ada", str(tmp_path / "grace.png"), *where]) == 1
    capsys.readouterr()
    assert cli.main(["unlock", "ada", *where]) == 0
    assert capsys.readouterr().out == "unlocked  ada  after 1 failure in a row\n"
    assert cli.main(["rotate-key", *where, "--new-key", str(tmp_path / "key")]) == 0
    assert capsys.readouterr().out.startswith("1 person sealed with a new key")
    assert cli.main(["doctor", *where, "--key", str(tmp_path / "key")]) == 0
    assert "1 rejection a minute" in capsys.readouterr().out
    assert cli.main(["audit", "--last", "-5", *where, "--key", str(tmp_path / "key")]) == 2
    assert "-5 rows: 1 to 1,000,000 can be shown" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{PROGRAM} {version(PROGRAM)}\n"


def test_the_program_is_installed_under_its_name() -> None:
    program = shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    assert program is not None
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(PROGRAM)


_LOADED = """
import sys
import edge_oneshot_device, edge_oneshot_device.cli
light = {name.partition(".")[0] for name in sys.modules}
from edge_oneshot_device import Bundle, Decision, DeviceError, Encoder, Person, Recognizer
import edge_oneshot_device.measuring.bench, edge_oneshot_device.state.folder
edge_oneshot_device.cli.main(["init", sys.argv[1], "--state", sys.argv[2]])
edge_oneshot_device.cli.main(["people", "--state", sys.argv[2]])
print(*light, file=sys.stderr)
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


def test_the_device_loads_neither_tensorflow_nor_the_other_floors(make_bundle: MakeBundle, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, str(make_bundle()), str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=True,
    )
    light, whole = (set(line.split()) for line in done.stderr.splitlines())
    assert "edge_oneshot_device" in light
    assert not light & {"numpy", "PIL", "ai_edge_litert", "sqlite3", "cryptography"}
    assert whole >= {"numpy", "PIL", "ai_edge_litert", "sqlite3"}
    heavy = {"tensorflow", "keras", "onnxruntime", "onnx", "scipy", "sklearn", "cv2", "edge_oneshot",
             "edge_oneshot_export"}  # fmt: skip
    assert not whole & heavy
