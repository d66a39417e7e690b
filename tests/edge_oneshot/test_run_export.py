import numpy as np
import pytest
from PIL import Image

from edge_oneshot.bundle_evaluation import evaluate
from edge_oneshot.bundle_options import EvaluateOptions
from edge_oneshot.errors import TrainingError
from edge_oneshot.run_export import export_run
from edge_oneshot.training.options import TrainOptions
from edge_oneshot.training.runs import Run
from edge_oneshot.training.train import train
from edge_oneshot.unseen_data import load_unseen, published_names
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_export.errors import ModelError
from edge_oneshot_export.options import ExportOptions


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A small encoder of glyphs, trained enough to tell most of them apart."""
    options = TrainOptions(images=9_600, size=24, embedding=32, batch=32)
    return train("glyphs", tmp_path_factory.mktemp("runs") / "glyphs", options)


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    return export_run(run, tmp_path_factory.mktemp("bundles") / "glyphs.oneshot")


def test_the_bundle_says_what_the_encoder_was_trained_on(run, report):
    provenance = report.manifest.provenance
    assert provenance.data == "glyphs"
    assert provenance.seed == 0
    assert provenance.images_seen == 9_600
    assert provenance.trained_on == run.record.trained_on
    assert provenance.held_out == run.record.held_out


def test_thresholds_come_from_the_held_out_alphabets(run, report):
    single = [(c.variant, c.rule) for c in report.manifest.calibration if c.templates == 1]
    assert single == [(variant, rule) for variant in ("int8", "float32") for rule in ("best", "mean")]
    assert all(c.people == 20 * len(run.record.held_out) for c in report.manifest.calibration)


def test_the_exported_float_model_is_the_encoder_of_the_run(run, report):
    images = np.random.default_rng(0).integers(0, 256, (4, *run.record.input.shape)).astype(np.uint8)
    embedded = Encoder.open(Bundle.open(report.path), "float32").embed_many(images)
    raw = np.asarray(run.encoder()((255.0 - images.astype(np.float32)) / 255.0))
    assert embedded == pytest.approx(raw / np.linalg.norm(raw, axis=1, keepdims=True), abs=1e-5)


def test_a_run_without_a_checkpoint_is_not_exported(run, tmp_path):
    import msgspec

    empty = Run(run.path, msgspec.structs.replace(run.record, images_seen=0))
    with pytest.raises(TrainingError, match="nothing is trained yet"):
        export_run(empty, tmp_path / "x.oneshot")
    assert not list(tmp_path.iterdir())


def test_an_unknown_variant_is_named(run, tmp_path):
    with pytest.raises(ModelError, match="float99"):
        export_run(run, tmp_path / "x.oneshot", ExportOptions(variants=("float99",)))


def test_the_shipped_file_is_judged_only_on_alphabets_it_never_saw(run, report):
    unseen, seen = load_unseen("glyphs", report.manifest)
    assert set(unseen.group_names) == set(run.record.held_out)
    assert set(seen) == set(run.record.trained_on)


def test_one_shot_accuracy_beats_pixels_and_chance(report):
    results = evaluate(report.path, "glyphs", EvaluateOptions(protocol="within-alphabet", ways=(5, 20), episodes=1000))
    assert [result.ways for result in results] == [5, 20]
    for result in results:
        assert result.runtime == "litert"
        assert result.chance == 1 / result.ways
        assert result.interval[0] < result.accuracy < result.interval[1]
        assert result.accuracy > result.pixel_accuracy > result.chance
        assert result.error == pytest.approx(1 - result.accuracy)


def test_verification_counts_people_and_pairs(report):
    result = evaluate(report.path, "glyphs", EvaluateOptions(protocol="verification"))
    assert result.people == 80
    assert result.genuine == 80 * 20 * 19 // 2
    assert result.failures_to_acquire == 0
    assert list(result.tpr_at_fpr) == ["1e-2", "1e-3", "1e-4", "1e-5"]
    assert result.tpr_at_fpr["1e-2"] > result.tpr_at_fpr["1e-4"]


def test_the_official_runs_are_read_through_the_device(report, omniglot_dir):
    (result,) = evaluate(report.path, "omniglot", EvaluateOptions(protocol="lake"), data_dir=omniglot_dir)
    assert (result.protocol, result.ways, result.episodes) == ("lake", 20, 400)
    assert result.pixel_accuracy == pytest.approx(0.59, abs=0.05)
    assert result.accuracy > result.pixel_accuracy


@pytest.mark.parametrize(
    ("data", "protocol", "line"), [("glyphs", "lake", "Omniglot's"), ("people", "within-alphabet", "has no alphabets")]
)
def test_a_protocol_that_the_data_cannot_give_is_refused(report, tmp_path, data, protocol, line):
    if data == "people":
        for person in ("ada", "bob"):
            (tmp_path / person).mkdir()
            for number in range(2):
                Image.new("L", (32, 32), 60 * number).save(tmp_path / person / f"{number}.png")
        data = str(tmp_path)
    with pytest.raises(ValueError, match=line):
        evaluate(report.path, data, EvaluateOptions(protocol=protocol))


def test_people_of_a_folder_leave_no_name_in_the_bundle():
    assert published_names("omniglot", ["Greek"]) == ("Greek",)
    (digest,) = published_names("/staff", ["ada"])
    assert digest.startswith("sha256:")
    assert "ada" not in digest
