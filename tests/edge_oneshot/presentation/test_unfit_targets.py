"""A bundle whose default false accept rate is unfit for a door says so when it is made."""

from pathlib import Path

import pytest

from edge_oneshot.presentation import results
from edge_oneshot_device.inspection.bundle_summary import Operation, Summary
from edge_oneshot_export.packing.packer import ExportReport


def text(monkeypatch: pytest.MonkeyPatch, *targets: float) -> str:
    operations = [
        Operation("int8", "best", count, target, 0.9, target, 0.1, 20, 0, 0, {}, "made up", False, None, [])
        for count, target in enumerate(targets, start=1)
    ]
    monkeypatch.setattr(results, "describe", lambda _: "a bundle")
    values = dict.fromkeys(Summary.__struct_fields__) | {"calibration": operations}
    report = ExportReport(Path("few.oneshot"), None, (), 1.0)  # type: ignore[arg-type]
    return results.export_text(report, Summary(**values), ())


def test_a_default_above_one_percent_is_said_to_be_unfit_for_a_door(monkeypatch: pytest.MonkeyPatch) -> None:
    told = text(monkeypatch, 0.01, 0.5)
    assert "unfit for a door: with so few people and images the false accept rate is 50 % at best" in told
    assert told.endswith("next: edge-oneshot-device init few.oneshot --target-far 0.5")


@pytest.mark.parametrize("targets", [(), (0.01,), (0.0005, 0.001)])
def test_a_default_of_one_percent_or_less_is_not(monkeypatch: pytest.MonkeyPatch, targets: tuple[float, ...]) -> None:
    told = text(monkeypatch, *targets)
    assert "unfit" not in told
    assert told.endswith("next: edge-oneshot-device init few.oneshot")
