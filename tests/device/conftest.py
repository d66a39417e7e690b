"""A whole bundle of tiny models, and images of a few people.

`make_bundle()` writes a valid bundle and returns its path; `people` holds encoded images.
"""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge_oneshot_device.bundle.manifest import MANIFEST_NAME, EmbeddingSection, InputSection, fingerprint
from tests import MODELS
from tests.samples.galleries import Machine
from tests.samples.pictures import members
from tests.samples.tiny import bundle_maker, draw_people, tiny_section, zip_stored


@pytest.fixture(scope="session")
def key() -> Ed25519PrivateKey:
    """The key of who makes bundles."""
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture(scope="session")
def stranger() -> Ed25519PrivateKey:
    """A key that nobody trusts."""
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))


@pytest.fixture
def public_file(tmp_path: Path) -> Callable[[Ed25519PrivateKey], Path]:
    """Writes the public key as `edge-oneshot keygen` does."""

    def write(key: Ed25519PrivateKey) -> Path:
        content = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        path = tmp_path / f"{hashlib.sha256(content).hexdigest()[:8]}.pub"
        path.write_bytes(content)
        return path

    return write


@pytest.fixture
def machine() -> Machine:
    """A machine that the test restarts, and whose clocks it turns."""
    return Machine()


@pytest.fixture(scope="session")
def fake_edgetpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A delegate under libedgetpu's name, alone in a folder; data/fake_edgetpu.c says how it is made to fail."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = tmp_path_factory.mktemp("lib") / "libedgetpu.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, MODELS / "fake_edgetpu.c"], check=True)
    return path


@pytest.fixture
def section() -> InputSection:
    """The tiny models' input: 8 x 8, grey, -1..1."""
    return tiny_section()


@pytest.fixture(scope="session")
def people() -> dict[str, tuple[bytes, ...]]:
    """Seven noisy PNG images of 32 x 32 of each of five patterns; "stranger" is for nobody to enrol."""
    return draw_people()


@pytest.fixture
def make_bundle(tmp_path: Path, people: dict[str, tuple[bytes, ...]], section: InputSection) -> Callable[..., Path]:
    """Writes a valid bundle of the tiny models.

    Keywords: `name` (also the file's), `metric`, `variants` (of int8, float32, onnx-float32),
    `calibrated`, `rule`, `counts` (templates calibrated), `min_contrast` (another value gives other
    fingerprints), `seed` (of the provenance, to make another file of the same fingerprints),
    `change` (a function that edits the manifest as plain data before it is written).
    """
    return bundle_maker(tmp_path, people, section)


@pytest.fixture
def exchange_model() -> Callable[[Path, str, bytes], Path]:
    """Puts another model file in a variant's place, digests and fingerprint put right."""

    def exchange(path: Path, variant: str, content: bytes) -> Path:
        files = members(path)
        plain = json.loads(files[MANIFEST_NAME])
        chosen = next(one for one in plain["variants"] if one["name"] == variant)
        member = next(one for one in plain["members"] if one["path"] == chosen["file"])
        digest = hashlib.sha256(content).hexdigest()
        member |= {"sha256": digest, "bytes": len(content)}
        sections = msgspec.convert(plain["input"], InputSection), msgspec.convert(plain["embedding"], EmbeddingSection)
        chosen |= {"bytes": len(content), "fingerprint": fingerprint(digest, *sections)}
        files |= {MANIFEST_NAME: json.dumps(plain).encode(), chosen["file"]: content}
        path.write_bytes(zip_stored(files))
        return path

    return exchange
