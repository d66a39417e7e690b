"""Files of third parties: taken from the packages of the extra ``faces``, checked, and never imported."""

import hashlib
import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from edge_oneshot.errors import DataError
from edge_oneshot_device.files import read_file
from edge_oneshot_device.manifest import Licence

_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file inside an installed package.

    Attributes:
        distribution: As pip names it.
        package: As Python imports it.
        path: Inside the package.
        sha256: Of its content, in hex: another content is refused.
        licence: Of the content, which may be another than the package's.
    """

    distribution: str
    package: str
    path: str
    sha256: str
    licence: Licence


ENCODER: Final = PackageFile(
    distribution="face_recognition_models",
    package="face_recognition_models",
    path="models/dlib_face_recognition_resnet_model_v1.dat",
    sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    licence=Licence(
        what="encoder weights: dlib's face recognition ResNet v1 (Davis E. King)",
        licence="CC0-1.0",
        source="https://github.com/davisking/dlib-models",
    ),
)


def read_package_file(file: PackageFile) -> bytes:
    """Content of a file of an installed package. The package's code is not run.

    Raises:
        DataError: ``extra_missing``: the package is not installed; ``wrong_file``: it holds another content.
        MachineError: It cannot be read.
    """
    spec = importlib.util.find_spec(file.package)
    places = list(spec.submodule_search_locations or ()) if spec else []
    path = next((found for place in places if (found := Path(place) / file.path).is_file()), None)
    if path is None:
        message = f"{file.distribution} is not installed: run: pip install 'edge-oneshot[faces]'"
        raise DataError(message, reason="extra_missing")
    content = read_file(path, _MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        version = metadata.version(file.distribution)
        message = f"{path} of {file.distribution} {version} is not the file known here: run: pip install 'edge-oneshot[faces]'"
        raise DataError(message, reason="wrong_file")
    return content
