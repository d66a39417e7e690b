"""The option of every command that may read Omniglot."""

from pathlib import Path
from typing import Annotated

from edge_oneshot_device.options import Options, option

DataDir = Annotated[
    Path,
    option(
        "folder of Omniglot's archives (default: EDGE_ONESHOT_DATA; without either they are downloaded to "
        "the user's cache)",
        metavar="DIR",
    ),
]


class DataOptions(Options, frozen=True, kw_only=True):
    """Where the data sets are."""

    data_dir: DataDir | None = None
