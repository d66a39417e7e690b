"""What pixels are scaled by has a range of sense, looked at before the work begins."""

import math

import pytest

from edge_oneshot.bundle_options import EncoderFileOptions
from edge_oneshot.errors import DataError
from edge_oneshot.file_export import export_files
from tests import MODELS
from tests.raising import raises

MODEL = MODELS / "tiny-int8.tflite"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"scale": (0.0,)}, "--scale 0: give 0.0001 to 100,000, or as much below 0"),
        ({"scale": (1e-9,)}, "--scale 1e-09"),
        ({"scale": (-1e300,)}, r"--scale -1e\+300"),
        ({"scale": (math.nan,)}, "--scale nan"),
        ({"scale": (math.inf,)}, "--scale inf"),
        ({"mean": (math.nan,)}, "--mean nan: give 0 to 100,000"),
        ({"mean": (1e6,)}, r"--mean 1e\+06"),
        ({"mean": (1.0, 2.0)}, "--mean has 2 values: give one"),
    ],
)
def test_scaling_beyond_sense_is_refused_before_images_are_loaded(how, message, tmp_path):
    with raises(DataError, match=message, reason="bad_scaling"):
        export_files([MODEL], tmp_path / "x.oneshot", str(tmp_path / "no images"), own=EncoderFileOptions(**how))
