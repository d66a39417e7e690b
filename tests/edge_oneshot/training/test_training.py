import json
import shutil
import signal
import subprocess
import sys
import time

import keras
import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_oneshot import cli, commands
from edge_oneshot.data.loading import load_data
from edge_oneshot.errors import DataError, TrainingError
from edge_oneshot.training import images, loop
from edge_oneshot.training.batches import Source
from edge_oneshot.training.images import oversampled
from edge_oneshot.training.nets import first_view
from edge_oneshot.training.objectives import OBJECTIVES
from edge_oneshot.training.options import ExecutionOptions, TrainOptions
from edge_oneshot.training.presets import preset
from edge_oneshot.training.run_folder import held
from edge_oneshot.training.run_summary import summarise
from edge_oneshot.training.runs import Run
from edge_oneshot.training.strategies import open_devices
from edge_oneshot.training.train import require_same, resume, train
from edge_oneshot.training.trainer import Trainer
from edge_oneshot.training.warm_start import warm_start
from edge_oneshot_export.judging.drift import unit
from tests.raising import raises

SMALL = {"images": 1280, "size": 16, "embedding": 16, "batch": 64}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train("glyphs", tmp_path_factory.mktemp("runs") / "whole", TrainOptions(**SMALL))


def weights(run: Run) -> list[np.ndarray]:
    return [weight.numpy() for weight in run.encoder().weights]


def test_a_run_says_what_it_was_trained_on_and_what_was_held_out(run):
    assert run.record.finished
    assert run.record.images_seen == 1280
    assert len(run.record.held_out) == 4
    assert not set(run.record.held_out) & set(run.record.trained_on)
    assert len(run.record.held_out) + len(run.record.trained_on) == 24
    assert Run.open(run.path) == run


def test_training_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    run = train("glyphs", tmp_path / "run", TrainOptions(images=9_600, size=24, embedding=32, batch=32))
    history = run.history()
    assert len(history) == 20
    assert history[-1].accuracy > history[0].accuracy + 0.1
    assert history[-1].accuracy > 0.5  # chance is 0.05, the nearest neighbour in pixels 0.30


class Clock:
    """A second passes with each look at it, and what `passing` wraps takes a quarter of an hour at its first call."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now

    def passing(self, function):
        def slow(*arguments, **named):
            self.now += slow.seconds
            slow.seconds = 0.0
            return function(*arguments, **named)

        slow.seconds = 900.0
        return slow


def test_the_clock_of_a_training_begins_at_its_first_step(tmp_path, monkeypatch):
    clock, step = Clock(), Trainer.step
    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop, "imprint", clock.passing(loop.imprint))
    monkeypatch.setattr(Trainer, "step", lambda self, compiler: clock.passing(step(self, compiler)))
    settings = {name: value for name, value in SMALL.items() if name != "images"}
    run = train("glyphs", tmp_path / "run", TrainOptions(minutes=20 / 60, **settings))
    assert run.record.seconds == pytest.approx(20.0, abs=1.0)
    assert run.record.images_seen >= 15 * SMALL["batch"]  # a second each, but for checkpoints


def test_a_training_says_what_it_is_at_before_its_first_step(tmp_path):
    told = []
    train("glyphs", tmp_path / "run", TrainOptions(**{**SMALL, "images": 64}), report=told.append)
    before = [now.activity for now in told if now.images == 0]
    assert "compiling the training step" in before
    assert all(before)
    assert [now.images for now in told if not now.activity] == [64]


def test_a_training_that_was_too_short_is_said_to_be(run, tmp_path):
    short = train("glyphs", tmp_path / "run", TrainOptions(**{**SMALL, "images": 64}))
    assert summarise(short).warning == (
        "the training was too short: it saw 64 images, fewer than its 1,600 classes; "
        "train again with more --minutes or --images"
    )
    enough = msgspec.structs.replace(run.record, images_seen=run.record.classes)
    assert summarise(Run(run.path, enough)).warning is None


def test_two_trainings_into_one_folder_exclude_each_other(run, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "load_data", None)  # neither comes so far
    unfinished = tmp_path / "unfinished"
    shutil.copytree(run.path, unfinished)
    (unfinished / "run.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(run.record, finished=False)))
    with held(tmp_path / "new", make=True), held(unfinished):
        for begin in (lambda: train("glyphs", tmp_path / "new", TrainOptions(**SMALL)), lambda: resume(unfinished)):
            with raises(TrainingError, match="another training is at work in this folder", reason="run_busy") as raised:
                begin()
            assert raised.value.exit_code == 2
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_a_run_is_refused_before_anything_heavy_is_loaded(tmp_path, capsys, monkeypatch):
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(commands, "_import_tensorflow", None)
    assert cli.main(["train", "glyphs", "--out", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().err)["reason"] == "run_exists"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(run, tmp_path):
    again = train("glyphs", tmp_path / "again", TrainOptions(**SMALL))
    other = train("glyphs", tmp_path / "other", TrainOptions(**SMALL, seed=1))
    assert all(np.array_equal(a, b) for a, b in zip(weights(run), weights(again), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(weights(run), weights(other), strict=True))


def test_runs_of_several_seeds_hold_out_the_same_alphabets(run, tmp_path):
    other = train("glyphs", tmp_path / "other", TrainOptions(**{**SMALL, "images": 64}, seed=1))
    assert other.record.held_out == run.record.held_out


def test_a_training_begins_with_the_encoder_of_another_run(run, tmp_path):
    short = {**SMALL, "images": 64, "orientations": 1}
    on = train("glyphs", tmp_path / "on", TrainOptions(**short, start=str(run.path)))
    anew = train("glyphs", tmp_path / "anew", TrainOptions(**short))
    assert on.record.settings.start == str(run.path)
    assert summarise(on).accuracy > summarise(anew).accuracy + 0.02
    assert resume(on.path).record == on.record


def test_the_embeddings_that_a_training_begins_with_are_those_of_the_other_run(run):
    record = run.record
    training = load_data("glyphs", oversampled(record.input)).only(record.trained_on)
    source = Source(training, record.input, preset("drawings"), size=64, seed=0)
    trainer = Trainer(record, open_devices("one", 64))
    warm_start(trainer, run, record, source)
    images = source.batch(99)[0]
    view = first_view(run.encoder())
    expected = unit(keras.ops.convert_to_numpy(view(images, training=False)))
    assert np.sum(expected * unit(trainer.embed(images, training=False).numpy()), axis=1).min() > 0.9999
    assert np.sum(expected * unit(trainer.embed(images, training=True).numpy()), axis=1).mean() > 0.9


def test_turned_images_that_were_classes_of_their_own_are_a_second_view(run, tmp_path):
    short = {**SMALL, "images": 64}
    assert run.record.settings.views == 2
    assert run.encoder().output_shape == (None, 2 * SMALL["embedding"])
    assert train("glyphs", tmp_path / "upright", TrainOptions(**short, orientations=1)).record.settings.views == 1
    one = train("glyphs", tmp_path / "one", TrainOptions(**short, views=1))
    assert one.encoder().output_shape == (None, SMALL["embedding"])
    both = train("glyphs", tmp_path / "both", TrainOptions(**short)).encoder()
    for alone, shared in zip(one.encoder().weights, first_view(both).weights, strict=True):
        assert np.array_equal(alone.numpy(), shared.numpy())
    with pytest.raises(TrainingError, match=r"2 views need orientations of 4 or more"):
        train("glyphs", tmp_path / "no", TrainOptions(**short, orientations=1, views=2))
    with pytest.raises(TrainingError, match=r"embedding 4096: with 2 views at most 2048 fit into a bundle"):
        train("glyphs", tmp_path / "no", TrainOptions(**{**short, "embedding": 4096}))


def test_a_training_refuses_to_begin_with_what_does_not_fit(run, tmp_path):
    with pytest.raises(TrainingError, match=r"whole: has another size, framing, net or embedding"):
        train("glyphs", tmp_path / "net", TrainOptions(**{**SMALL, "embedding": 8}, start=str(run.path)))
    seen = tmp_path / "seen"
    shutil.copytree(run.path, seen)
    record = msgspec.structs.replace(run.record, trained_on=run.record.held_out)
    (seen / "run.json").write_bytes(msgspec.json.encode(record))
    with pytest.raises(TrainingError, match=r"seen: was trained on .*, which is held out here"):
        train("glyphs", tmp_path / "out", TrainOptions(**SMALL, start=str(seen)))


def test_the_accuracy_of_a_run_has_its_interval(run):
    summary = summarise(run)
    low, high = summary.interval
    assert low < summary.accuracy < high
    assert 0.03 < high - low < 0.3  # 1,000 tasks about 80 characters


def test_training_in_bfloat16_learns_as_much_and_leaves_a_float32_encoder(run, tmp_path):
    fast = train("glyphs", tmp_path / "run", TrainOptions(**SMALL, precision="bfloat16"))
    assert {str(weight.dtype) for weight in fast.encoder().weights} == {"float32"}
    assert {layer.compute_dtype for layer in fast.encoder().layers} == {"float32"}
    assert abs(summarise(fast).accuracy - summarise(run).accuracy) < 0.1
    assert not all(np.array_equal(a, b) for a, b in zip(weights(run), weights(fast), strict=True))


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"cosine"}))
def test_every_objective_teaches_the_encoder_something(objective, tmp_path):
    run = train("glyphs", tmp_path / "run", TrainOptions(images=5120, size=24, embedding=32, objective=objective))
    assert run.record.settings.objective == objective
    assert summarise(run).accuracy > 0.36  # chance is 0.05, an untrained encoder about 0.25


def test_a_resumed_run_keeps_its_objective(tmp_path):
    def interrupt(progress):
        if progress.images == 320:
            signal.raise_signal(signal.SIGINT)

    settings = {**SMALL, "images": 640, "objective": "koch"}
    whole = train("glyphs", tmp_path / "whole", TrainOptions(**settings))
    with pytest.raises(KeyboardInterrupt):
        train("glyphs", tmp_path / "run", TrainOptions(**settings), report=interrupt)
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole), weights(resume(tmp_path / "run")), strict=True))
    with pytest.raises(TrainingError, match="was started with objective koch, not triplet"):
        require_same(tmp_path / "run", "glyphs", {"objective": "triplet"})


def test_a_training_that_was_interrupted_goes_on_to_the_same_result(run, tmp_path):
    def interrupt(progress):
        if progress.images == 640:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train("glyphs", tmp_path / "run", TrainOptions(**SMALL), report=interrupt)
    half = Run.open(tmp_path / "run")
    assert not half.record.finished
    assert half.record.images_seen == 640
    assert half.encoder().output_shape == (None, 32)
    resumed = resume(tmp_path / "run")
    assert resumed.record.finished
    assert all(np.array_equal(a, b) for a, b in zip(weights(run), weights(resumed), strict=True))
    assert [m.images for m in resumed.history()] == sorted({m.images for m in resumed.history()})


def test_a_training_that_was_killed_goes_on_to_the_same_result(run, tmp_path):
    code = """if True:
        import sys
        from edge_oneshot.training import loop, options, train
        loop._CHECKPOINT_SECONDS = 0.0
        small = options.TrainOptions(images=1280, size=16, embedding=16, batch=64)
        train.train("glyphs", sys.argv[1], small)
    """
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stderr=subprocess.DEVNULL)
    while not (tmp_path / "run" / "run.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    resumed = resume(tmp_path / "run")
    assert all(np.array_equal(a, b) for a, b in zip(weights(run), weights(resumed), strict=True))


def test_the_siamese_view_tells_same_from_other(run):
    siamese = run.siamese()
    images = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    degrees = np.asarray(siamese([images, images]))
    assert ((degrees > 0.5) & (degrees <= 1.0)).all()


def test_a_run_is_not_overwritten(run):
    with pytest.raises(TrainingError, match="holds a run already; add --resume"):
        train("glyphs", run.path, TrainOptions(**SMALL))


def test_resuming_a_finished_run_changes_nothing(run):
    before = (run.path / "run.json").read_bytes()
    assert resume(run.path) == run
    assert (run.path / "run.json").read_bytes() == before


def test_resume_refuses_other_settings(run):
    require_same(run.path, "glyphs", {"seed": 0, "size": 16})
    with pytest.raises(TrainingError, match="was started with seed 0, not 7"):
        require_same(run.path, "glyphs", {"seed": 7})
    with pytest.raises(TrainingError, match="was started with data glyphs, not omniglot"):
        require_same(run.path, "omniglot", {})


def test_a_run_of_another_version_is_refused_in_one_line(run, tmp_path):
    record = msgspec.json.decode((run.path / "run.json").read_bytes())
    (tmp_path / "run.json").write_bytes(msgspec.json.encode({**record, "format": 1}))
    with pytest.raises(TrainingError, match="made by another version") as caught:
        Run.open(tmp_path)
    assert caught.value.exit_code == 2
    (tmp_path / "run.json").write_bytes(msgspec.json.encode({**record, "surprise": 1}))
    with pytest.raises(TrainingError, match="surprise"):
        Run.open(tmp_path)


@pytest.mark.parametrize("name", ["seed", "embedding", "minutes", "images", "net", "learning_rate", "held_out"])
def test_a_run_that_lacks_a_setting_is_damaged_and_gets_no_default(run, tmp_path, name):
    record = msgspec.json.decode((run.path / "run.json").read_bytes())
    del record["settings"][name]
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(record))
    with pytest.raises(TrainingError, match=f"required field `{name}`") as caught:
        Run.open(tmp_path)
    assert caught.value.reason == "run_damaged"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}'])
def test_a_damaged_record_is_one_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(TrainingError) as caught:
        Run.open(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["encoder.keras", "checkpoint.npz"])
def test_a_truncated_file_of_a_run_is_named(run, tmp_path, name):
    for file in run.path.iterdir():
        content = file.read_bytes()
        (tmp_path / file.name).write_bytes(content[: len(content) // 2] if file.name == name else content)
    damaged = Run.open(tmp_path)
    with pytest.raises(TrainingError, match=name):
        damaged.encoder() if name == "encoder.keras" else damaged.variables()


def test_a_folder_of_photos_can_be_trained_on(tmp_path):
    rng = np.random.default_rng(0)
    for person in range(20):
        folder = tmp_path / "people" / f"person{person:02}"
        folder.mkdir(parents=True)
        face = rng.integers(0, 256, (8, 8)).astype(np.uint8)
        for photo in range(2):
            noisy = np.clip(face + rng.normal(0, 10, face.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).resize((64, 64)).save(folder / f"{photo}.png")
    run = train(str(tmp_path / "people"), tmp_path / "run", TrainOptions(images=640, size=16, embedding=16, batch=32))
    assert run.record.settings.augment == "photos"
    assert run.record.classes == 16
    assert len(run.record.held_out) == 4
    assert summarise(run).accuracy > 0.5  # 4-way: chance is 0.25


def test_too_little_data_is_said_plainly(tmp_path):
    for person in ("ada", "bob", "cy", "dee"):
        folder = tmp_path / "people" / person
        folder.mkdir(parents=True)
        Image.new("L", (32, 32), 99).save(folder / "one.png")
    with pytest.raises(DataError, match="has 1 image, at least 2 are needed"):
        train(str(tmp_path / "people"), tmp_path / "run", TrainOptions(images=64, size=16))
    assert not (tmp_path / "run").exists()


def test_a_run_that_cannot_be_written_is_an_error_of_the_machine(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file/run"):
        train("glyphs", tmp_path / "file" / "run", TrainOptions(**SMALL))


def test_logs_for_tensorboard_hold_the_figures_of_each_checkpoint(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    run = train("glyphs", tmp_path / "run", TrainOptions(**SMALL), ExecutionOptions(tensorboard=True))
    logs = EventAccumulator(str(run.path / "tensorboard"), {"tensors": 0}).Reload()
    assert sorted(logs.Tags()["tensors"]) == ["accuracy", "images_per_second", "loss", "seconds"]
    logged = [(event.step, float(make_ndarray(event.tensor_proto))) for event in logs.Tensors("accuracy")]
    assert logged == [(moment.images, pytest.approx(moment.accuracy)) for moment in run.history()]


def test_logs_without_tensorboard_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(TrainingError, match="need the package tensorboard"):
        train("glyphs", tmp_path / "run", TrainOptions(**SMALL), ExecutionOptions(tensorboard=True))
    assert not (tmp_path / "run").exists()
