import pytest

from edge_oneshot.data.dataset import Dataset
from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot.training.images import oversampled

SIZE = 24


@pytest.fixture(scope="session")
def glyphs() -> Dataset:
    """Glyphs at twice the resolution of a 24x24 encoder, as training starts from."""
    return load_data("glyphs", oversampled(default_input("glyphs", SIZE)))
