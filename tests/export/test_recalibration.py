"""Thresholds from other people, and nobody enrols again."""

import numpy as np
import pytest

from edge_oneshot_device import Bundle
from edge_oneshot_device.inspection.bundle_summary import summarise
from edge_oneshot_device.presentation.bundles import describe_all
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.options import CalibrateOptions
from edge_oneshot_export.recalibration import recalibrate


def test_a_new_calibration_changes_thresholds_and_nothing_that_templates_are_bound_to(
    exported, make_people, destination
):
    bundle = Bundle.open(exported.path)
    steps = []
    others = make_people(30, 7, seed=77)
    report = recalibrate(
        bundle,
        destination,
        calibration=others,
        data="30 colleagues",
        options=CalibrateOptions(target_far=0.02),
        progress=steps.append,
    )
    new = Bundle.open(destination)
    assert report.manifest == new.manifest
    assert [v.fingerprint for v in new.manifest.variants] == [v.fingerprint for v in bundle.manifest.variants]
    assert new.manifest.variants == bundle.manifest.variants
    assert (new.manifest.input, new.manifest.self_test) == (bundle.manifest.input, bundle.manifest.self_test)
    assert dict(new.members) == dict(bundle.members)
    assert steps == [f"{variant.name}: calibrating" for variant in bundle.manifest.variants]
    for calibration in new.manifest.calibration:
        assert (calibration.people, calibration.data, calibration.target_far) == (30, "30 colleagues", 0.02)
    assert len(new.manifest.calibration) == len(bundle.manifest.calibration)


def test_a_few_people_loosen_no_threshold_and_keep_default_and_rule(exported, make_people, destination):
    before = Bundle.open(exported.path)
    recalibrate(before, destination, calibration=make_people(5, 8, seed=79), data="5 colleagues")
    after = Bundle.open(destination)
    assert after.manifest.rule == before.manifest.rule
    for old, new in zip(before.manifest.calibration, after.manifest.calibration, strict=True):
        assert (new.people, new.target_far, new.provisional) == (5, old.target_far, True)
        thresholds = {point.target_far: point.threshold for point in new.points}
        assert all(thresholds[point.target_far] >= point.threshold for point in old.points)
    shown = summarise(after).calibration[0]
    assert shown.why_provisional is not None
    assert shown.why_provisional.startswith("5 people are too few for a false accept rate of ")
    assert shown.why_provisional in " ".join(describe_all(summarise(after)).split())


def test_images_that_show_nothing_are_counted_as_failures(exported, make_people, destination):
    others = make_people(12, 8, seed=78)
    others.images[:8:2] = 128
    recalibrate(Bundle.open(exported.path), destination, calibration=others, data="12 colleagues")
    found = {c.templates: c for c in Bundle.open(destination).manifest.calibration if c.variant == "int8"}
    assert (found[1].failures_to_enrol, found[1].failures_to_acquire) == (0, 4)
    assert (found[5].failures_to_enrol, found[5].failures_to_acquire, found[5].people) == (1, 0, 11)
    assert min(point.frr for point in found[5].points) >= 1 / 12


def test_a_target_that_the_people_do_not_support_writes_nothing(exported, make_people, destination):
    destination.write_bytes(b"the old bundle")
    with pytest.raises(ModelError, match=r"a false accept rate of 0\.0001 needs at least 246 identities"):
        recalibrate(
            Bundle.open(exported.path), destination, calibration=make_people(8, 3, seed=1), data="8",
            options=CalibrateOptions(target_far=1e-4),
        )  # fmt: skip
    assert destination.read_bytes() == b"the old bundle"


def test_images_of_another_size_are_refused(exported, people, destination):
    small = type(people)(np.zeros((8, 16, 16, 1), np.uint8), np.repeat(np.arange(4), 2), tuple("abcd"))
    with pytest.raises(ModelError, match=r"calibration\.images are uint8"):
        recalibrate(Bundle.open(exported.path), destination, calibration=small, data="4")
