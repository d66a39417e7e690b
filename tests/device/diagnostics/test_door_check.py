"""What doctor says of what a door's configuration names, on machines laid out as folders."""

import os
import socket
from pathlib import Path

import pytest

from edge_oneshot_device import cli
from edge_oneshot_device.diagnostics import door_check
from edge_oneshot_device.diagnostics.door_check import (
    check_door,
    door_extras,
    find_broker,
    find_camera,
    find_gpio,
    find_keypad,
    find_microphone,
    find_packages,
    find_secrets,
    find_words,
)
from edge_oneshot_device.door.config_file import parse_config
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.installation import installer
from tests.samples.tiny import MakeBundle

GPIO = parse_config('[lock]\nkind = "gpio"')


WORD = '[second_factor]\nmode = "word"\n[word]\nstate = "/words"\n'


def put(machine: Path, *names: str, text: str = "") -> None:
    for name in names:
        (machine / name).parent.mkdir(parents=True, exist_ok=True)
        (machine / name).write_text(text)


def camera(source: str) -> DoorConfig:
    return parse_config(f'[camera]\nsource = "{source}"')


def said(findings: object) -> list[tuple[str, str, str | None]]:
    return [(one.what, one.level, one.reason) for one in findings]


@pytest.fixture
def port():
    """A port that somebody answers on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port():
    """A port that nobody answers on."""
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        yield link.getsockname()[1]


@pytest.mark.parametrize("source", ["/dev/video2", "2"])
def test_a_camera_that_is_there_is_named(tmp_path, source):
    put(tmp_path, "dev/video2")
    (found,) = find_camera(camera(source), tmp_path)
    assert (found.level, found.text) == ("ok", str(tmp_path / "dev/video2"))


def test_a_video_file_has_to_be_readable_and_no_more(tmp_path, monkeypatch):
    put(tmp_path, "srv/scene.mp4")
    monkeypatch.setattr("os.access", lambda _, mode: mode == os.R_OK)
    assert said(find_camera(camera("/srv/scene.mp4"), tmp_path)) == [("camera", "ok", None)]


def test_a_camera_that_is_not_there_is_a_fault_that_says_which_are(tmp_path):
    put(tmp_path, "sys/class/video4linux/video1/name", text="HD Webcam\n")
    (found,) = find_camera(camera("/dev/video0"), tmp_path)
    assert (found.level, found.reason) == ("fault", "no_camera")
    assert "there is no /dev/video0: cameras here: /dev/video1 (HD Webcam)" in found.text


def test_a_device_that_this_user_may_not_open_is_a_fault_with_the_group_to_join(tmp_path, monkeypatch):
    put(tmp_path, "dev/video0", "dev/gpiochip0")
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(door_check, "_user", lambda: "edge-oneshot")
    monkeypatch.setattr("grp.getgrgid", lambda _: type("Group", (), {"gr_name": "video"}))
    (found,) = find_camera(camera("/dev/video0"), tmp_path)
    assert (found.level, found.reason) == ("fault", "no_camera")
    assert "sudo usermod -aG video edge-oneshot" in found.text
    assert said(find_gpio(GPIO, tmp_path)) == [("gpio", "fault", "no_gpio")]


def test_the_camera_at_the_ribbon_cable_needs_its_nodes(tmp_path):
    assert said(find_camera(camera("picamera"), tmp_path)) == [("camera", "fault", "no_camera")]
    put(tmp_path, "dev/media0", "dev/dma_heap/linux,cma")
    assert said(find_camera(camera("picamera"), tmp_path)) == [("camera", "ok", None)]


def test_a_camera_in_the_network_has_to_answer_and_its_password_is_not_shown(port, closed_port):
    (found,) = find_camera(camera(f"rtsp://me:secret@127.0.0.1:{port}/stream"))
    assert (found.level, found.text) == ("ok", f"127.0.0.1 answers on port {port}")
    (found,) = find_camera(camera(f"rtsp://me:secret@127.0.0.1:{closed_port}/stream"))
    assert (found.level, found.reason) == ("fault", "no_camera")
    assert "secret" not in found.text


def test_gpios_are_looked_for_only_where_the_door_uses_them(tmp_path):
    assert [*find_gpio(DoorConfig(), tmp_path)] == []
    for text in ('[lock]\nkind = "gpio"', "[inputs]\nexit_button = 5"):
        assert said(find_gpio(parse_config(text), tmp_path)) == [("gpio", "fault", "no_gpio")]
    put(tmp_path, "dev/gpiochip0")
    assert said(find_gpio(GPIO, tmp_path)) == [("gpio", "ok", None)]


def test_a_keypad_that_is_not_there_is_a_fault_that_says_which_are(tmp_path):
    config = parse_config('[pin]\nkeypad = "/dev/input/event9"')
    put(tmp_path, "dev/input/by-id/usb-Pad-event-kbd")
    (found,) = find_keypad(config, tmp_path)
    assert (found.level, found.reason) == ("fault", "no_keypad")
    assert "/dev/input/by-id/usb-Pad-event-kbd" in found.text
    put(tmp_path, "dev/input/event9")
    assert said(find_keypad(config, tmp_path)) == [("keypad", "ok", None)]
    assert [*find_keypad(DoorConfig(), tmp_path)] == []


def test_a_microphone_that_is_not_there_is_a_fault_where_words_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(door_check, "find_library", lambda _: "libportaudio.so.2")
    config = parse_config(WORD)
    put(tmp_path, "dev/snd/pcmC0D0p")
    assert said(find_microphone(config, tmp_path)) == [("microphone", "fault", "no_microphone")]
    put(tmp_path, "dev/snd/pcmC1D0c")
    assert said(find_microphone(config, tmp_path)) == [("microphone", "ok", None)]
    assert [*find_microphone(DoorConfig(), tmp_path)] == []


def test_a_sound_file_in_place_of_the_microphone_has_to_be_there(tmp_path):
    config = parse_config(f'{WORD}microphone = "{tmp_path / "said.wav"}"')
    assert said(find_microphone(config)) == [("microphone", "fault", "no_microphone")]
    put(tmp_path, "said.wav")
    assert said(find_microphone(config)) == [("microphone", "ok", None)]


def test_the_library_for_microphones_is_named_where_it_is_missing(tmp_path, monkeypatch):
    put(tmp_path, "dev/snd/pcmC1D0c")
    monkeypatch.setattr(door_check, "find_library", lambda _: None)
    monkeypatch.setattr(door_check, "find_spec", lambda _: object())
    (missing, _) = find_microphone(parse_config(WORD), tmp_path)
    assert (missing.what, missing.reason) == ("packages", "extra_missing")
    assert "apt install libportaudio2" in missing.text


def test_words_of_a_bundle_for_images_or_of_no_bundle_are_a_fault(make_bundle: MakeBundle, tmp_path):
    config = parse_config(WORD.replace("/words", str(tmp_path / "state")))
    (found,) = find_words(config)
    assert (found.level, found.reason) == ("fault", "not_initialised")
    installer.install(make_bundle(), tmp_path / "state", key=tmp_path / "key")
    (found,) = find_words(config, tmp_path / "key")
    assert (found.level, found.reason) == ("fault", "no_speech_bundle")
    assert found.text.startswith("words: ")
    assert [*find_words(DoorConfig())] == []


def test_a_broker_that_does_not_answer_is_a_warning_and_a_fault_where_it_opens_the_lock(port, closed_port):
    text = '[mqtt]\nhost = "127.0.0.1"\nport = {}\n'
    assert said(find_broker(parse_config(text.format(port)))) == [("broker", "ok", None)]
    assert said(find_broker(parse_config(text.format(closed_port)))) == [("broker", "warning", None)]
    lock = '[lock]\nkind = "mqtt"\nmqtt.topic = "lock"\n'
    assert said(find_broker(parse_config(lock + text.format(closed_port)))) == [("broker", "fault", "no_broker")]


def test_a_secret_that_others_can_read_or_that_is_missing_is_a_fault(tmp_path):
    secret = tmp_path / "secret"
    config = parse_config(f'[webhook]\nurl = "https://example.org"\nsecret_file = "{secret}"')
    assert said(find_secrets(config)) == [("secret", "fault", "secret_missing")]
    secret.write_text("x" * 32)
    secret.chmod(0o640)
    assert said(find_secrets(config)) == [("secret", "fault", "secret_exposed")]
    secret.chmod(0o600)
    assert said(find_secrets(config)) == [("secret", "ok", None)]


@pytest.mark.parametrize(
    ("text", "extras"),
    [
        ("", ("camera",)),
        ('[camera]\nsource = "picamera"', ()),
        ('[lock]\nkind = "gpio"', ("camera", "gpio")),
        ('[inputs]\ngreen = 5\n[mqtt]\nhost = "broker"\n[metrics]\nport = 9100', ("camera", "gpio", "metrics", "mqtt")),
        ('[pin]\nkeypad = "/dev/input/event0"', ("camera", "pin")),
        (WORD, ("audio", "camera")),
        (WORD + 'microphone = "said.wav"', ("camera",)),
    ],
)
def test_a_door_needs_the_extras_of_what_it_uses(text, extras):
    assert door_extras(parse_config(text)) == extras


def test_a_package_that_is_missing_is_a_fault_that_names_the_extra(monkeypatch):
    monkeypatch.setattr(door_check, "find_spec", lambda name: None if name in ("lgpio", "picamera2") else object())
    (found,) = find_packages(GPIO)
    assert (found.level, found.reason) == ("fault", "extra_missing")
    assert "with [gpio]" in found.text
    assert said(find_packages(camera("picamera"))) == [("packages", "fault", "extra_missing")]


def test_a_bundle_without_faces_is_no_bundle_for_a_door(make_bundle: MakeBundle, tmp_path, capsys):
    state, key = tmp_path / "state", tmp_path / "key"
    installer.install(make_bundle(), state, key=key)
    put(tmp_path, "dev/video0")
    diagnosis = check_door(DoorConfig(), state, key, tmp_path)
    assert ("bundle", "fault", "no_faces") in said(diagnosis.findings)
    assert ("camera", "ok", None) in said(diagnosis.findings)
    assert diagnosis.exit_code == 2
    (tmp_path / "door.toml").write_text('[lock]\nkind = "none"')
    words = ["doctor", "--config", str(tmp_path / "door.toml"), "--state", str(state), "--key", str(key)]
    assert cli.main(words) == 2
    assert "finds no faces" in capsys.readouterr().out
