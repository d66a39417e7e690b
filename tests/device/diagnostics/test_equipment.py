"""What doctor says of runtimes, the Edge TPU and the clock, on machines laid out as folders."""

import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from edge_oneshot_device.diagnostics import doctor, equipment
from edge_oneshot_device.diagnostics.doctor import examine
from edge_oneshot_device.diagnostics.equipment import Finding, find_clock, find_edgetpu, find_runtimes, fits
from edge_oneshot_device.encoding import edgetpu
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def packages(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    """Only these are installed; an underscore stands for a dash."""

    def found(name: str) -> str:
        try:
            return versions[name.replace("-", "_")]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(equipment, "version", found)


def levels(findings: object) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in findings]


# runtimes


def test_what_is_installed_is_loaded_and_what_is_not_comes_with_its_command(monkeypatch):
    pytest.importorskip("ai_edge_litert")
    packages(monkeypatch, ai_edge_litert="2.3.0", numpy="2.4.6")
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    assert levels(find_runtimes()) == [
        ("ok", "litert 2.3.0 loads, with numpy 2.4.6"),
        ("note", 'tflite-runtime is not installed; to install it, run: pip install'
                 ' "tflite-runtime>=2.13,<3" "numpy<2"'),
        ("note", 'onnxruntime is not installed; to install it, run: pip install "onnxruntime>=1.22,<2"'),
    ]  # fmt: skip


def test_a_python_for_which_there_is_no_tflite_runtime_is_told(monkeypatch):
    packages(monkeypatch, numpy="2.4.6")
    monkeypatch.setattr(sys, "version_info", (3, 13, 0))
    assert ("note", "tflite-runtime is not installed; it exists only for Python up to 3.11") in levels(find_runtimes())


def test_tflite_runtime_beside_numpy_2_is_a_warning_with_the_way_out(monkeypatch):
    packages(monkeypatch, tflite_runtime="2.14.0", numpy="2.4.6")
    text = 'tflite-runtime 2.14.0 was built for numpy 1 and does not run with numpy 2.4.6; run: pip install "numpy<2"'
    assert ("warning", text) in levels(find_runtimes())


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("raise ImportError('libstdc++.so.6: cannot open')", r"ImportError: libstdc++.so.6: cannot open"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "SIGILL"),
    ],
)
def test_a_runtime_that_does_not_load_is_a_warning_whatever_it_does(monkeypatch, tmp_path, code, why):
    (tmp_path / "onnxruntime.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    packages(monkeypatch, onnxruntime="1.32.0", numpy="2.4.6")
    text = f'onnxruntime 1.32.0 does not load ({why}); run: pip install "onnxruntime>=1.22,<2"'
    assert ("warning", text) in levels(find_runtimes())


@pytest.fixture
def state(make_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_LOW_BYTES", 0)
    monkeypatch.setattr(doctor, "_LOW_SHARE", 0.0)

    def make(**options) -> Finding:
        def change(manifest: dict) -> None:
            manifest["variants"][0]["compiled"] = manifest["variants"][0]["file"]

        path = make_bundle(change=change)
        installer.install(path, tmp_path / "state", InstallOptions(**options), key=tmp_path / "key")
        return examine(tmp_path / "state", tmp_path / "key").findings[0]

    return make


def test_an_edge_tpu_that_another_runtime_stands_in_for_is_a_warning(state, monkeypatch):
    monkeypatch.setattr(edgetpu, "LIBRARY", "libedgetpu-of-nobody.so.1")
    finding = state(runtime="edgetpu", allow_cpu=True)
    assert (finding.what, finding.level) == ("bundle", "warning")
    assert finding.text == ("tiny, int8 on litert instead of edgetpu, which failed: its self-test passed; see below")


def test_litert_without_xnnpack_is_a_warning(state, monkeypatch):
    monkeypatch.setattr("edge_oneshot_device.encoding.runtimes.TfliteModel.delegated", False)
    finding = state()
    assert finding.level == "warning"
    assert finding.text == "tiny, int8 on litert without XNNPACK, which makes it slower: its self-test passed"


def test_onnxruntime_has_no_xnnpack_to_miss(state):
    pytest.importorskip("onnxruntime")
    finding = state(variant="onnx-float32")
    assert (finding.level, finding.text) == ("ok", "tiny, onnx-float32 on onnxruntime: its self-test passed")


# the Edge TPU


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("sys/bus/usb/devices", "sys/bus/pci/devices", "dev/bus/usb/002", "var/lib/dpkg", "run"):
        (root / folder).mkdir(parents=True)
    (root / "dev/rtc0").touch()
    return root


def plug_usb(root: Path, vendor: str = "18d1", product: str = "9302") -> Path:
    device = root / "sys/bus/usb/devices/2-1"
    device.mkdir()
    facts = {"idVendor": vendor, "idProduct": product, "busnum": "2", "devnum": "5"}
    for name, value in facts.items():
        (device / name).write_text(f"{value}\n")
    node = root / "dev/bus/usb/002/005"
    node.touch()
    return node


def plug_pci(root: Path) -> None:
    card = root / "sys/bus/pci/devices/0000:01:00.0"
    card.mkdir()
    (card / "vendor").write_text("0x1ac1\n")
    (card / "device").write_text("0x089a\n")


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equipment, "LIBRARY", "libedgetpu-of-nobody.so.1")


@pytest.mark.usefixtures("absent")
def test_where_there_is_nothing_nothing_is_asked_for(machine):
    (machine / "sys/bus/usb/devices/usb1").mkdir()
    ((finding),) = find_edgetpu(machine)
    assert (finding.what, finding.level) == ("edgetpu", "note")
    assert finding.text.startswith("no Coral on USB or PCIe, and no libedgetpu")


@pytest.mark.usefixtures("absent")
@pytest.mark.parametrize(("vendor", "product"), [("18d1", "9302"), ("1a6e", "089a")])
def test_a_coral_on_usb_is_found_before_and_after_its_firmware(machine, vendor, product):
    node = plug_usb(machine, vendor, product)
    device, library = find_edgetpu(machine)
    assert (device.level, device.text) == ("ok", f"a Coral on USB ({vendor}:{product}), {node}")
    assert library.level == "warning"
    assert "does not load (OSError: libedgetpu-of-nobody.so.1: cannot open shared object file" in library.text
    assert "install the build for litert" in library.text


@pytest.mark.usefixtures("absent")
def test_a_node_that_is_closed_to_the_user_is_a_warning(machine, monkeypatch):
    plug_usb(machine)
    monkeypatch.setattr("os.access", lambda *_: False)
    device, _ = find_edgetpu(machine)
    assert device.level == "warning"
    assert "this user may not open" in device.text


@pytest.mark.usefixtures("absent")
def test_a_coral_on_pcie_needs_its_driver(machine):
    plug_pci(machine)
    without, _ = find_edgetpu(machine)
    assert (without.level, without.text) == (
        "warning", "a Coral on PCIe without /dev/apex_0: install its driver, gasket-dkms",
    )  # fmt: skip
    (machine / "dev/apex_0").touch()
    with_driver, _ = find_edgetpu(machine)
    assert (with_driver.level, with_driver.text) == ("ok", f"a Coral on PCIe, {machine / 'dev/apex_0'}")


@pytest.fixture
def library(fake_edgetpu: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_edgetpu.parent))
    return fake_edgetpu


STOCK = "Package: libc6\nStatus: install ok installed\nVersion: 2.36\n\nPackage: {}\nStatus: {}\nVersion: {}\n\n"


def test_a_library_is_told_with_its_path_its_version_and_its_package(machine, library):
    plug_usb(machine)
    status = machine / "var/lib/dpkg/status"
    status.write_text(STOCK.format("libedgetpu1-std", "install ok installed", "16.0"))
    _, told = find_edgetpu(machine)
    assert told.level == "warning"
    assert told.text == (
        f"{library}, BuildLabel(COMPILER=fake,DATE=redacted,TIME=redacted), RuntimeVersion(14): package 16.0, built for"
        f" TensorFlow 2.5, is reported to crash with litert {version('ai-edge-litert')}; install from"
        " https://github.com/feranick/libedgetpu/releases"
    )
    status.write_text(STOCK.format("libedgetpu1-max", "deinstall ok config-files", "16.0"))
    _, told = find_edgetpu(machine)
    assert (told.level, told.text.rpartition(": ")[2][:23]) == ("ok", "not from a Debian packa")


def test_a_library_without_a_device_says_so(machine, library):
    told, device = find_edgetpu(machine)
    assert told.text.startswith(str(library))
    assert device.text.startswith("no Coral on USB or PCIe: plug it in")


def test_a_library_that_is_none_is_told(machine, tmp_path, monkeypatch):
    plug_usb(machine)
    (tmp_path / "libedgetpu.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    _, told = find_edgetpu(machine)
    assert told.level == "warning"
    assert "libedgetpu.so.1 does not load (OSError: " in told.text


@pytest.mark.parametrize(
    ("package", "host", "host_version", "level", "words"),
    [
        ("16.0", "tflite-runtime", "2.11.1", "ok", "built for TensorFlow 2.5, works with tflite-runtime 2.11.1"),
        ("16.0", "tflite-runtime", "2.12.0", "warning", "is reported to crash with tflite-runtime 2.12.0"),
        ("16.0", "tflite-runtime", "2.14.0", "warning", "is reported to crash with tflite-runtime 2.14.0"),
        ("16.0", "litert", "2.3.0", "warning", "is reported to crash with litert 2.3.0"),
        ("16.0tf2.17.1-1.bookworm", "litert", "2.3.0", "ok", "for TensorFlow 2.17; whether it works with litert 2.3.0"),
        (None, "litert", "2.3.0", "ok", "whether it works with litert 2.3.0 shows when it is used"),
    ],
)
def test_the_build_of_the_library_is_held_against_the_runtime(package, host, host_version, level, words):
    told = fits(package, host, host_version)
    assert told[0] == level
    assert words in told[1]


# the clock


def test_a_clock_that_is_right_is_said_with_whether_it_is_kept(machine):
    told = find_clock(NOON, datetime(2026, 3, 1, 11, tzinfo=UTC), "2026-01-01T00:00:00Z", machine)
    assert told == Finding("clock", "ok", "2026-03-01T12:00:00Z")
    (machine / "dev/rtc0").unlink()
    told = find_clock(NOON, None, "2026-01-01T00:00:00Z", machine)
    assert told.text == "2026-03-01T12:00:00Z; there is no battery to keep it running while the power is off"


@pytest.mark.parametrize(
    ("last", "created", "words"),
    [
        (
            datetime(2026, 3, 2, tzinfo=UTC),
            "2026-01-01T00:00:00Z",
            "the audit trail was last written (2026-03-02T00:00:00Z)",
        ),
        (None, "2026-04-01T00:00:00Z", "the bundle was made (2026-04-01T00:00:00Z)"),
    ],
)  # fmt: skip
def test_a_clock_that_cannot_be_right_is_a_warning(machine, last, created, words):
    told = find_clock(NOON, last, created, machine)
    assert told.level == "warning"
    assert told.text.startswith(f"2026-03-01T12:00:00Z is before {words}: run timedatectl")


def test_a_clock_that_the_network_has_not_set_yet_is_a_warning(machine):
    daemon = machine / "run/systemd/timesync"
    daemon.mkdir(parents=True)
    told = find_clock(NOON, None, "2026-01-01T00:00:00Z", machine)
    assert (told.level, told.text) == (
        "warning", "2026-03-01T12:00:00Z, not synchronized with the network: run timedatectl",
    )  # fmt: skip
    (daemon / "synchronized").touch()
    assert find_clock(NOON, None, "2026-01-01T00:00:00Z", machine).level == "ok"
    assert find_clock(NOON, None, "2026-01-01T00:00:00Z", machine, synchronized=False).level == "warning"
