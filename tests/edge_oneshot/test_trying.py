"""What runs a bundle that is not in use tries its files first, in a process of its own."""

from types import SimpleNamespace

import pytest

from edge_oneshot import bundle_evaluation, bundle_recalibration
from edge_oneshot.bundle_options import EvaluateOptions
from edge_oneshot_device.errors import IntegrityError


@pytest.fixture
def tried(monkeypatch) -> list[str]:
    """Variants that were tried; the trial of the last one fails."""
    names = []
    variants = [SimpleNamespace(name=n) for n in ("float32", "int8")]
    bundle = SimpleNamespace(manifest=SimpleNamespace(name="x", variants=variants, default_variant="float32"))

    def fail(_bundle, variant, *_):
        names.append(variant)
        if variant == "int8":
            raise IntegrityError("it does not end", reason="model_refused")

    for module in (bundle_recalibration, bundle_evaluation):
        monkeypatch.setattr(module, "Bundle", SimpleNamespace(open=lambda _path: bundle))
        monkeypatch.setattr(module, "try_variant", fail)
    return names


def test_a_new_calibration_tries_every_variant(tried, tmp_path):
    with pytest.raises(IntegrityError, match="it does not end"):
        bundle_recalibration.recalibrate_bundle("x.oneshot", tmp_path / "y.oneshot", "no data")
    assert tried == ["float32", "int8"]


@pytest.mark.parametrize(("asked", "used"), [("int8", "int8"), (None, "float32")])
def test_an_evaluation_tries_its_variant_or_the_bundle_s_first(tried, monkeypatch, asked, used):
    def fail(*_arguments, **_words):
        raise IntegrityError("it does not end", reason="model_refused")

    monkeypatch.setattr(bundle_evaluation, "Encoder", SimpleNamespace(open=fail))
    options = EvaluateOptions(protocol="random", ways=(5,), episodes=10, variant=asked)
    with pytest.raises(IntegrityError, match="it does not end"):
        bundle_evaluation.evaluate("x.oneshot", "no data", options)
    assert tried == [used]
