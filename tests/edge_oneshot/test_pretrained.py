import pytest

from edge_oneshot.bundle_evaluation import evaluate
from edge_oneshot.bundle_options import EvaluateOptions
from edge_oneshot.pretrained import pretrained_run
from edge_oneshot.run_export import export_run
from edge_oneshot_export.options import ExportOptions

LARGEST = {"base": 1_000_000, "tiny": 100_000}  # bytes of the int8 file


@pytest.fixture(scope="module", params=LARGEST)
def shipped(request, tmp_path_factory, omniglot_dir):
    """An exported encoder: its name and report."""
    out = tmp_path_factory.mktemp("bundles") / f"{request.param}.oneshot"
    run = pretrained_run(request.param)
    return request.param, export_run(run, out, ExportOptions(variants=("int8", "float32")), data_dir=omniglot_dir)


def test_it_is_as_small_as_it_is_said_to_be(shipped):
    name, report = shipped
    (size,) = [variant.bytes for variant in report.manifest.variants if variant.name == "int8"]
    assert size <= LARGEST[name]


def test_the_manifest_names_the_alphabets_it_was_not_trained_on(shipped):
    provenance = shipped[1].manifest.provenance
    assert len(provenance.trained_on) == 25
    assert len(provenance.held_out) == 5
    assert not set(provenance.trained_on) & set(provenance.held_out)


def test_int8_keeps_the_accuracy(shipped, omniglot_dir):
    errors = [
        evaluate(
            shipped[1].path,
            "omniglot",
            EvaluateOptions(protocol="within-alphabet", ways=(20,), episodes=4000, variant=variant),
            data_dir=omniglot_dir,
        )[0].error
        for variant in ("float32", "int8")
    ]
    assert abs(errors[1] - errors[0]) <= 0.0025


def test_it_beats_people_on_the_official_runs(shipped, omniglot_dir):
    (result,) = evaluate(shipped[1].path, "omniglot", EvaluateOptions(protocol="lake"), data_dir=omniglot_dir)
    assert result.error < 0.045  # Lake et al. 2015
