"""What doctor says of temperature and supply, on machines laid out as folders."""

from pathlib import Path

import pytest

from edge_oneshot_device.diagnostics.equipment import Finding
from edge_oneshot_device.diagnostics.health import find_temperature, is_synchronized


def sensor(machine: Path, number: int, thousandths: str) -> None:
    zone = machine / f"sys/class/thermal/thermal_zone{number}"
    zone.mkdir(parents=True)
    (zone / "temp").write_text(thousandths)


def firmware(machine: Path, bits: str) -> None:
    folder = machine / "sys/devices/platform/soc/soc:firmware"
    folder.mkdir(parents=True)
    (folder / "get_throttled").write_text(f"{bits}\n")


def test_the_hottest_sensor_counts(tmp_path):
    sensor(tmp_path, 0, "41000\n")
    sensor(tmp_path, 1, "63400\n")
    sensor(tmp_path, 2, "none\n")
    assert [*find_temperature(tmp_path)] == [Finding("temperature", "ok", "63 °C")]


def test_a_machine_without_a_sensor_says_nothing(tmp_path):
    assert [*find_temperature(tmp_path)] == []


@pytest.mark.parametrize(("thousandths", "level"), [("74999", "ok"), ("75000", "warning")])
def test_a_hot_machine_is_a_warning(tmp_path, thousandths, level):
    sensor(tmp_path, 0, thousandths)
    (found,) = find_temperature(tmp_path)
    assert found.level == level


@pytest.mark.parametrize(
    ("bits", "level", "words"),
    [
        ("0", "ok", "neither too low in voltage nor throttled"),
        ("50005", "warning", "the supply's voltage is too low, it is throttled, the supply's voltage was too low"),
        ("40000", "warning", "it was throttled (get_throttled 0x40000)"),
    ],
)
def test_what_the_firmware_says_of_heat_and_supply_is_told(tmp_path, bits, level, words):
    firmware(tmp_path, bits)
    (found,) = find_temperature(tmp_path)
    assert (found.what, found.level) == ("supply", level)
    assert words in found.text


@pytest.mark.parametrize(("state", "synchronized"), [(0, True), (5, False), (-1, None)])
def test_the_kernel_says_whether_its_clock_is_kept_right(monkeypatch, state, synchronized):
    class Library:
        @staticmethod
        def adjtimex(_buffer: object) -> int:
            return state

    monkeypatch.setattr("ctypes.CDLL", lambda _name: Library)
    assert is_synchronized() is synchronized
