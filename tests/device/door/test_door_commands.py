"""The commands of the door: a configuration is written, tried and locked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edge_oneshot_device import cli
from edge_oneshot_device.door.config_file import read_config
from edge_oneshot_device.door.configuration import DoorConfig


def test_init_writes_a_configuration_that_is_all_defaults(tmp_path, capsys):
    path = tmp_path / "door.toml"
    assert cli.main(["door", "init", "--config", str(path)]) == 0
    assert "then door check --config" in capsys.readouterr().out
    assert read_config(path) == DoorConfig()
    assert path.stat().st_mode & 0o777 == 0o640


def test_init_replaces_nothing_and_writes_in_no_state_folder(tmp_path, capsys):
    path = tmp_path / "door.toml"
    path.write_text("name = 'mine'")
    assert cli.main(["door", "init", "--config", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_text() == "name = 'mine'"
    state = tmp_path / "state"
    state.mkdir()
    assert cli.main(["door", "init", "--config", str(state / "door.toml"), "--state", str(state)]) == 2


def test_a_wrong_key_ends_run_with_one_line(tmp_path, capsys):
    path = tmp_path / "door.toml"
    path.write_text("[camera]\nsorce = 'x'")
    assert cli.main(["run", "--config", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{path}: camera.sorce: there is no such key; there are source,")
    assert told.count("\n") == 1


def test_run_needs_a_configuration_or_the_demo(tmp_path, capsys):
    assert cli.main(["run"]) == 2
    assert "--config FILE" in capsys.readouterr().err
    assert cli.main(["run", "--demo", "--config", str(tmp_path / "door.toml")]) == 2
    assert "not allowed with" in capsys.readouterr().err


def test_run_says_that_nothing_is_installed(tmp_path, capsys):
    path = tmp_path / "door.toml"
    path.write_text("")
    assert cli.main(["run", "--config", str(path), "--state", str(tmp_path / "state")]) == 2
    assert "init" in capsys.readouterr().err


def test_a_screen_and_lines_of_json_exclude_each_other(tmp_path, capsys):
    path = tmp_path / "door.toml"
    path.write_text("")
    assert cli.main(["run", "--config", str(path), "--show", "--json"]) == 2
    assert "give one of them" in json.loads(capsys.readouterr().err)["error"]


@pytest.fixture
def lock():
    """A lock in the network that notes what it is told."""
    told = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["action"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.told = told
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def config(lock, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(1, 33)).hex().encode())
    secret.chmod(0o600)
    path = tmp_path / "door.toml"
    url = f"http://127.0.0.1:{lock.server_port}/"
    path.write_text(f"[lock]\nkind = 'webhook'\n[lock.webhook]\nurl = '{url}'\nsecret_file = '{secret}'\n")
    return path


def test_lock_locks_at_once(lock, config):
    assert cli.main(["door", "lock", "--config", str(config)]) == 0
    assert lock.told == ["lock"]


def test_check_tries_the_lock_and_never_opens_it(lock, config, tmp_path, capsys):
    with config.open("a") as file:
        file.write("[camera]\nsource = '/dev/null/camera'\n")
    code = cli.main(["door", "check", "--config", str(config), "--state", str(tmp_path / "state"), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert code == found["exit_code"] == 2
    levels = {(one["what"], one["level"]) for one in found["findings"]}
    assert {("camera", "fault"), ("lock", "ok"), ("factor", "ok")} <= levels
    assert set(lock.told) == {"lock"}
