"""From training to the door through both programs, as a user types it."""

import json
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from edge_oneshot.data import glyphs
from edge_oneshot_export.packing.signing import load_key, sign
from edge_oneshot_export.variants import VARIANTS
from tests.samples.pictures import members
from tests.samples.tiny import zip_stored

BIN = Path(sys.executable).parent


def call(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / str(arguments[0])), *map(str, arguments[1:])]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert result.returncode == code, (command, result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result


def train(folder: Path, *more: object) -> subprocess.CompletedProcess[str]:
    small = ("--images", 9600, "--size", 24, "--embedding", 32, "--batch", 32)
    return call("edge-oneshot", "train", "glyphs", "--out", folder, *small, *more)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("journey") / "run"
    summary = json.loads(train(folder, "--json").stdout)
    assert summary["images"] == 9600
    assert summary["finished"] is True
    return folder


@pytest.fixture(scope="module")
def bundle(run) -> Path:
    path = run.parent / "glyphs.oneshot"
    written = json.loads(call("edge-oneshot", "export", run, "--out", path, "--variants", "all", "--json").stdout)
    assert set(written) >= {"name", "format", "variants", "fingerprints", "calibration", "signed_by", "bytes"}
    assert written["variants"] == list(VARIANTS)
    assert written["left_out"] == []
    assert written["drift"]["int8"]["tpr_at_fpr"]["1e-2"]["interval"]
    assert written["bytes"] == path.stat().st_size
    return path


@pytest.fixture(scope="module")
def drawings(run, tmp_path_factory) -> Path:
    """Two drawings each of three characters of a held-out alphabet: alpha-0.png, alpha-1.png, ..."""
    folder = tmp_path_factory.mktemp("drawings")
    held_out = json.loads((run / "run.json").read_bytes())["held_out"][0]
    drawn = glyphs.draw_alphabet(int(held_out.removeprefix("alphabet")) - 1, 0)
    for number, name in enumerate(("alpha", "beta", "gamma")):
        for drawer in range(2):
            Image.fromarray(drawn[5 * number, drawer]).save(folder / f"{name}-{drawer}.png")
    return folder


def test_the_door_knows_who_was_enrolled_and_forgets_who_left(bundle, drawings, tmp_path):
    state = ("--state", tmp_path / "state")
    device = "edge-oneshot-device"
    call(device, "init", bundle, "--target-far", "0.1", *state)
    for name in ("alpha", "beta"):
        enrolled = json.loads(call(device, "enrol", name, drawings / f"{name}-0.png", "--json", *state).stdout)
        assert (enrolled["person"], enrolled["templates"], enrolled["reason"]) == (name, 1, "enrolled")
    assert [p["person"] for p in json.loads(call(device, "people", "--json", *state).stdout)] == ["alpha", "beta"]

    itself = json.loads(call(device, "identify", drawings / "alpha-0.png", "--json", "--scores", *state).stdout)
    assert (itself["person"], itself["accepted"], itself["reason"]) == ("alpha", True, "match")
    assert itself["score"] == pytest.approx(1.0, abs=1e-5)
    assert itself["runner_up"]["person"] == "beta"
    assert itself["variant"] == "int8"

    call(device, "verify", "alpha", drawings / "alpha-0.png", *state)
    rejected = json.loads(call(device, "verify", "beta", drawings / "alpha-0.png", "--json", *state, code=1).stdout)
    assert (rejected["person"], rejected["accepted"], rejected["reason"]) == (None, False, "below_threshold")

    call(device, "forget", "alpha", *state)
    forgotten = json.loads(call(device, "identify", drawings / "alpha-0.png", "--json", *state, code=1).stdout)
    assert (forgotten["person"], forgotten["accepted"]) == (None, False)
    gone = call(device, "verify", "alpha", drawings / "alpha-0.png", *state, code=2)
    assert "alpha" in gone.stderr
    assert gone.stderr.count("\n") == 1


def test_every_variant_runs_at_the_device(bundle):
    for variant in VARIANTS:
        bench = call("edge-oneshot-device", "bench", bundle, "--variant", variant, "--runs", 20, "--json")
        figures = json.loads(bench.stdout)
        assert figures["variant"] == variant
        assert figures["num_runs"] == 20
        assert 0 < figures["p5_ms"] <= figures["median_ms"] <= figures["p95_ms"] <= figures["p99_ms"]


def test_the_bundle_is_judged_from_the_command_line(bundle):
    arguments = ("--data", "glyphs", "--protocol", "within-alphabet", "--ways", "5,20", "--episodes", 500)
    five, twenty = json.loads(call("edge-oneshot", "evaluate", bundle, *arguments, "--json").stdout)
    keys = {"protocol", "ways", "episodes", "accuracy", "error", "interval", "alphabets", "seed", "variant", "runtime"}
    assert five.keys() >= keys | {"fingerprint", "chance", "pixel_accuracy"}
    assert five["accuracy"] > twenty["accuracy"] > 0.3
    text = call("edge-oneshot", "evaluate", bundle, *arguments).stdout
    assert f"{twenty['accuracy']:.2%}" in text


def test_thresholds_come_from_ones_own_images_and_nobody_enrols_again(bundle, drawings, tmp_path):
    device, state = "edge-oneshot-device", ("--state", tmp_path / "state")
    call(device, "init", bundle, *state)
    call(device, "enrol", "alpha", drawings / "alpha-0.png", *state)
    new = tmp_path / "new.oneshot"
    command = ("edge-oneshot", "calibrate", bundle, "--data", "glyphs", "--out", new, "--target-far", "0.01")
    made = json.loads(call(*command, "--json").stdout)
    before = json.loads(call("edge-oneshot", "inspect", bundle, "--json").stdout)
    assert made["fingerprints"] == before["fingerprints"]
    assert {one["target_far"] for one in made["calibration"]} == {0.01}
    # what the encoder was trained on calibrates nothing
    assert len(made["trained_on_left_out"]) == len(before["provenance"]["trained_on"])
    call(device, "init", new, *state)
    found = json.loads(call(device, "identify", drawings / "alpha-0.png", "--json", *state).stdout)
    assert (found["person"], found["target_far"]) == ("alpha", 0.01)
    unsupported = call(*command[:-1], "1e-6", code=2)
    assert "needs at least 2,450 identities" in unsupported.stderr.splitlines()[-1]


def test_an_encoder_of_ones_own_becomes_a_bundle_with_a_page_about_what_it_costs(bundle, tmp_path):
    with zipfile.ZipFile(bundle) as archive:
        for name in ("int8.tflite", "float32.tflite"):
            (tmp_path / name).write_bytes(archive.read(f"models/{name}"))
    own = ("edge-oneshot", "export", "--out", "own.oneshot", "--model", "int8.tflite", "float32.tflite")
    scaled = ("--data", "glyphs", "--mean", "255", "--scale", "-255", "--report", "own.html")
    made = json.loads(call(*own, *scaled, "--json", cwd=tmp_path).stdout)
    assert made["variants"] == ["int8", "float32"]
    assert made["drift"]["int8"]["cosine_mean"] > 0.99
    assert "Quantization error" in (tmp_path / "own.html").read_text()
    assert json.loads(call("edge-oneshot", "inspect", "own.oneshot", "--json", cwd=tmp_path).stdout)["input"][
        "mean"
    ] == [255.0]
    for wrong, words in (
        (own, "--model needs --data"),
        ((*own, "--data", "glyphs", "--mean", "1,2"), "--mean has 2 values: give one, or 1"),
        ((*own, "--data", "glyphs", "--variants", "int8"), "takes no --variants"),
        ((*own, "--data", "glyphs", "--report", "own.txt"), "own.txt: a report is a page; name it .html"),
    ):
        assert words in call(*wrong, code=2, cwd=tmp_path).stderr.splitlines()[-1]


def test_both_programs_show_the_same_of_a_bundle(bundle):
    assert call("edge-oneshot", "inspect", bundle).stdout == call("edge-oneshot-device", "inspect", bundle).stdout


def test_a_door_that_trusts_a_key_opens_only_to_bundles_signed_by_it(run, drawings, tmp_path):
    device, state = "edge-oneshot-device", ("--state", tmp_path / "state")
    made = [json.loads(call("edge-oneshot", "keygen", "--out", tmp_path / f"{who}.key", "--json").stdout)
            for who in ("maker", "stranger")]  # fmt: skip
    bundle = tmp_path / "signed.oneshot"
    export = ("edge-oneshot", "export", run, "--out", bundle, "--variants", "int8", "--sign", tmp_path / "maker.key")
    assert json.loads(call(*export, "--json").stdout)["signed_by"] == made[0]["key"]
    installed = json.loads(call(device, "init", bundle, "--trust", tmp_path / "maker.key.pub", "--json", *state).stdout)
    assert (installed["signed_by"], installed["trusted"]) == (made[0]["key"], True)
    call(device, "enrol", "alpha", drawings / "alpha-0.png", *state)
    before = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}

    stranger = load_key(tmp_path / "stranger.key")
    files = members(bundle)
    text, signature = files.pop("manifest.json"), files.pop("manifest.sig")
    lax = re.sub(rb'"threshold": -?[0-9.e-]+', b'"threshold": -2.0', text)
    assert lax != text
    for name, altered, reason in (
        ("altered", {"manifest.json": lax, "manifest.sig": signature}, "bad_signature"),
        ("unsigned", {"manifest.json": text}, "unsigned"),
        ("rewritten", {"manifest.json": lax}, "unsigned"),
        ("signed anew", {"manifest.json": text, "manifest.sig": sign(text, stranger)}, "untrusted_key"),
        ("rewritten and signed anew", {"manifest.json": lax, "manifest.sig": sign(lax, stranger)}, "untrusted_key"),
    ):
        hostile = tmp_path / f"{name}.oneshot"
        hostile.write_bytes(zip_stored(altered | files))
        refused = call(device, "init", hostile, "--json", *state, code=3)
        assert (json.loads(refused.stderr)["reason"], refused.stdout) == (reason, "")
        told = call(device, "init", hostile, *state, code=3).stderr
        assert told.count("\n") == 1
        assert hostile.name in told
    assert {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()} == before
    assert json.loads(call(device, "identify", drawings / "alpha-0.png", "--json", *state).stdout)["person"] == "alpha"


def test_training_twice_gives_the_same_encoder_and_the_same_models(bundle, tmp_path):
    train(tmp_path / "again")
    some = ("--variants", "int8,onnx-int8")
    call("edge-oneshot", "export", tmp_path / "again", "--out", tmp_path / "again.oneshot", *some)
    first, again = (
        json.loads(call("edge-oneshot", "inspect", path, "--json").stdout)["fingerprints"]
        for path in (bundle, tmp_path / "again.oneshot")
    )
    assert again == {name: first[name] for name in ("int8", "onnx-int8")}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["edge-oneshot"], 2, "COMMAND"),
        (["edge-oneshot", "train", "glyphs", "--out", "x", "--minutes", "-1"], 2, "--minutes"),
        (["edge-oneshot", "train", "nowhere", "--out", "x", "--images", "64"], 2, "nowhere"),
        (["edge-oneshot", "train", "omniglot", "--out", "x", "--data-dir", "nowhere"], 2, "nowhere"),
        (["edge-oneshot", "train", "glyphs", "--out", "x", "--resume"], 2, "no run here"),
        (["edge-oneshot", "export", "nowhere", "--out", "x.oneshot"], 2, "nowhere"),
        (["edge-oneshot", "export", "RUN", "--out", "x.zip"], 2, ".oneshot"),
        (["edge-oneshot", "export", "RUN", "--out", "no/folder/x.oneshot"], 2, "no/folder"),
        (["edge-oneshot", "export", "RUN", "--out", "x.oneshot", "--variants", "int9"], 2, "int9"),
        (["edge-oneshot", "export", "RUN", "--out", "x.oneshot", "--sign", "no.key"], 2, "no.key"),
        (["edge-oneshot", "export", "RUN", "--out", "x.oneshot", "--sign", "FLIPPED"], 2, "flipped.oneshot"),
        (["edge-oneshot", "keygen", "--out", "flipped.oneshot"], 2, "never overwritten"),
        (["edge-oneshot-device", "init", "BUNDLE", "--trust", "FLIPPED", "--state", "state"], 2, "flipped.oneshot"),
        (["edge-oneshot", "evaluate", "nowhere.oneshot", "--data", "glyphs", "--protocol", "random"], 2, "nowhere"),
        (["edge-oneshot", "evaluate", "BUNDLE", "--data", "glyphs", "--protocol", "random", "--ways", "1"],
         2, "--ways"),
        (["edge-oneshot", "evaluate", "BUNDLE", "--data", "glyphs", "--protocol", "within-alphabet", "--ways", "21"],
         2, "21"),
        (["edge-oneshot", "evaluate", "FLIPPED", "--data", "glyphs", "--protocol", "random"], 3, "flipped.oneshot"),
        (["edge-oneshot-device", "init", "FLIPPED", "--state", "state"], 3, "flipped.oneshot"),
        (["edge-oneshot-device", "identify", "RUN", "--state", "nothing"], 2, "init"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_the_right_exit_code(run, bundle, tmp_path, arguments, code, words):
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    flipped = tmp_path / "flipped.oneshot"
    flipped.write_bytes(content)
    names = {"RUN": run, "BUNDLE": bundle, "FLIPPED": flipped}
    result = call(*(names.get(argument, argument) for argument in arguments), code=code, cwd=tmp_path)
    assert result.stdout == ""
    error = result.stderr.splitlines()[-1]
    assert words in error
    assert {path.name for path in tmp_path.iterdir()} <= {"flipped.oneshot", "state"}


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["edge-oneshot"], 2, "wrong_use"),
        (["edge-oneshot", "evaluate", "nowhere.oneshot", "--data", "glyphs", "--protocol", "random"], 2, "not_found"),
        (["edge-oneshot-device", "identify", "probe.png", "--state", "nothing"], 2, "not_initialised"),
    ],
)
def test_an_error_is_an_object_under_json(tmp_path, arguments, code, reason):
    result = call(*arguments, "--json", code=code, cwd=tmp_path)
    assert result.stdout == ""
    told = json.loads(result.stderr)
    assert told.keys() == {"error", "reason"}
    assert told["reason"] == reason


def test_ctrl_c_leaves_a_run_that_can_be_exported_and_resumed(tmp_path):
    command = [BIN / "edge-oneshot", "train", "glyphs", "--out", "run", "--minutes", "30", "--size", "16"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    while "images/s" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    error = process.communicate()[1]
    assert process.returncode == 130
    assert "run: stopped after" in error.splitlines()[-1]
    assert "--resume" in error
    assert not json.loads((tmp_path / "run" / "run.json").read_bytes())["finished"]
    call("edge-oneshot", "export", "run", "--out", "run.oneshot", cwd=tmp_path)
