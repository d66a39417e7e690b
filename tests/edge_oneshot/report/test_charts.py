import pytest
from PIL import Image

from edge_oneshot.report.charts import require_figure, write_figure
from edge_oneshot_device.errors import InputError
from tests.samples.report import one_shot, verification

CURVE = [one_shot("random", ways, 1.0 - ways / 100) for ways in range(2, 60)]


@pytest.mark.parametrize("result", [CURVE, verification()], ids=["accuracy", "roc"])
@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_result_makes_the_same_file(tmp_path, result, suffix):
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    write_figure(one, result)
    write_figure(other, result)
    assert one.read_bytes() == other.read_bytes()
    if suffix == ".svg":
        assert one.read_text().rstrip().endswith("</svg>")
    elif suffix == ".png":
        with Image.open(one) as image:
            assert image.size[0] > 400
    else:
        assert one.read_bytes().startswith(b"%PDF")


def test_every_n_is_on_the_curve_and_a_handful_named(tmp_path):
    write_figure(tmp_path / "curve.svg", CURVE)
    text = (tmp_path / "curve.svg").read_text()
    assert "encoder" in text
    for ways in (2, 5, 10, 20, 59):
        assert f"{100.0 - ways:.1f} %" in text
    assert "50.0 %" not in text  # too near the last to be read


def test_one_result_is_a_chart(tmp_path):
    write_figure(tmp_path / "lake.svg", [one_shot("lake", 20, 0.98)])
    assert "98.0 %" in (tmp_path / "lake.svg").read_text()


@pytest.mark.parametrize(("name", "line"), [("a.jpg", "a figure ends"), ("no/a.svg", "does not exist: make it first")])
def test_a_file_that_cannot_be_is_refused_before_any_work(tmp_path, name, line):
    with pytest.raises(InputError, match=line):
        require_figure(tmp_path / name)
