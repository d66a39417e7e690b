import msgspec
import pytest

from edge_oneshot import cli
from edge_oneshot.training.options import Recipe, TrainOptions
from edge_oneshot.training.runs import RunSettings
from edge_oneshot_device.errors import InputError

RESOLVED = {
    "data": "glyphs",
    "learning_rate": 1e-3,
    "held_out": 4,
    "augment": "drawings",
    "orientations": 4,
    "net": "base",
    "embedding": 128,
}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("size", 8, "--size 8: must be at least 16 and at most 256"),
        ("batch", 1, "--batch 1: must be at least 2"),
        ("minutes", 0.0, "--minutes 0.0: must be above 0 and at most 525600"),
        ("held_out", 0, "--held-out 0: must be at least 1"),
    ],
)
def test_python_and_the_command_line_refuse_a_value_with_the_same_words(name, value, told, capsys):
    with pytest.raises(InputError) as caught:
        TrainOptions(**{name: value})
    assert str(caught.value) == told
    assert cli.main(["train", "glyphs", "--out", "run", f"--{name.replace('_', '-')}", str(value)]) == 2
    assert told in capsys.readouterr().err


def test_a_length_is_given_by_the_clock_or_in_images():
    with pytest.raises(InputError, match="--images: not allowed with --minutes"):
        TrainOptions(minutes=1.0, images=64)


def test_a_run_keeps_the_whole_recipe_and_its_data():
    assert set(RunSettings.__struct_fields__) == {*Recipe.__struct_fields__, "data"}


def test_a_run_from_before_an_option_has_its_default():
    settings = msgspec.convert({**RESOLVED, "images": 64}, RunSettings)
    assert (settings.objective, settings.seed, settings.views) == ("cosine", 0, 1)
    with pytest.raises(msgspec.ValidationError, match="learning_rate"):
        msgspec.convert({name: value for name, value in RESOLVED.items() if name != "learning_rate"}, RunSettings)
