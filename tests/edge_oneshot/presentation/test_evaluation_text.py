"""What a person reads of a verification: with and without the gate, and another variant beside it."""

from dataclasses import replace

from edge_oneshot.presentation.results import evaluation_text
from edge_oneshot_device.bundle.drift_section import Change
from edge_oneshot_export.judging.folds import FoldsResult, GatedFolds
from tests.samples.report import verification


def test_rates_without_the_gate_follow_those_with_it():
    plain = verification()
    assert "quality gate" not in evaluation_text(plain)
    gated = replace(plain, failures_by_reason={"face_blurred": 3}, ungated=replace(plain, images=93))
    lines = evaluation_text(gated).splitlines()
    assert lines[0] == "with the quality gate"
    assert lines.index("not acquired: 3 face_blurred") < lines.index("without it")
    assert "int8 on litert, 20 identities, 93 images, 400 genuine and 4,000 impostor pairs" in lines


def test_another_variant_has_its_rates_and_the_differences_beside():
    change = Change(reference=0.91, variant=0.9, difference=-0.01, interval=(-0.02, 0.001))
    both = replace(verification(), beside=replace(verification(), variant="float32"), changes={"1e-2": change})
    head, *rows = evaluation_text(both).splitlines()
    assert head.split("  ")[-1].strip() == "difference, points"
    assert "float32" in head
    assert next(row for row in rows if row.startswith("TPR at FPR 1e-2")).endswith("90.00%   -1.00 (-2.00 to +0.10)")


def test_the_folds_say_what_the_gate_takes():
    found = FoldsResult(
        protocol="lfw",
        accuracy=0.99,
        standard_error=0.001,
        folds=[0.99],
        accuracy_acquired=0.991,
        eer=0.01,
        tpr_at_fpr={},
        genuine=10,
        impostor=10,
        people=9,
        failures_to_acquire=0,
        pairs_lost=0,
        refused={"face_blurred": 2},
        gated=GatedFolds(accuracy=0.9, accuracy_acquired=0.995, standard_error=0.002, pairs_lost=3),
        variant="int8",
        runtime="litert",
        fingerprint="f" * 64,
    )
    text = evaluation_text(found)
    assert "that the gate takes  99.50%  standard error 0.20%, 3 pairs lost" in text
    assert "the gate refuses: 2 face_blurred" in text
    assert "that the gate takes" not in evaluation_text(replace(found, gated=None))
