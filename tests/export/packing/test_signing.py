import json
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge_oneshot_device.bundle.signature import load_public_key, verify
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from edge_oneshot_export.packing import signing
from edge_oneshot_export.packing.signing import generate_key, load_key, sign
from tests.raising import raises

MANIFEST = b'{"name": "door"}'


def test_a_key_is_made_for_its_owner_alone_and_the_public_one_beside_it(tmp_path):
    pair = generate_key(tmp_path / "door.key")
    assert (pair.private, pair.public) == (str(tmp_path / "door.key"), str(tmp_path / "door.key.pub"))
    assert stat.S_IMODE(Path(pair.private).stat().st_mode) == 0o600
    assert load_public_key(pair.public) == pair.key
    assert load_key(pair.private).public_key().public_bytes_raw().hex() == pair.key
    assert generate_key(tmp_path / "other.key").key != pair.key


@pytest.mark.parametrize("name", ["door.key", "door.key.pub"])
@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_no_file_that_is_there_is_overwritten(name, kind, tmp_path):
    path = tmp_path / name
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere")
    with raises(InputError, match="never overwritten", reason="key_exists"):
        generate_key(tmp_path / "door.key")
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with raises(InputError, match="make it first", reason="no_folder"):
        generate_key(tmp_path / "missing" / "door.key")


def test_a_full_disk_leaves_neither_key(tmp_path, monkeypatch):
    write = signing.write_atomically

    def full_at_the_second(path, content, mode=0o644, **how):
        if mode == 0o600:
            raise MachineError("cannot write: No space left on device", reason="cannot_write")
        write(path, content, mode, **how)

    monkeypatch.setattr(signing, "write_atomically", full_at_the_second)
    with pytest.raises(MachineError):
        generate_key(tmp_path / "door.key")
    assert list(tmp_path.iterdir()) == []


def test_the_same_key_signs_the_same_manifest_with_the_same_bytes(tmp_path):
    key = load_key(generate_key(tmp_path / "door.key").private)
    content = sign(MANIFEST, key)
    assert content == sign(MANIFEST, load_key(tmp_path / "door.key"))
    assert content != sign(MANIFEST + b"\n", key)
    assert content != sign(MANIFEST, Ed25519PrivateKey.generate())
    assert verify(content, MANIFEST) == key.public_key().public_bytes_raw().hex()
    with raises(IntegrityError, reason="bad_signature"):
        verify(content, MANIFEST + b"\n")


def test_a_signature_never_changes():
    """RFC 8032 is deterministic: a second implementation can be held to these bytes."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    parsed = json.loads(sign(MANIFEST, key))
    assert parsed == {
        "key": "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8",
        "signature": "654a0085df0be7f60f62910d75d32053acd13c657c0c84f7fe511bed67c59640"
        "1259ddc92abb5c37e93f693b4c778ceba23cd7e9cfabce35fea644eddd818b0d",
    }


def pem(key, encryption=None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda key: key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "a public key"),
        (lambda key: pem(key, BestAvailableEncryption(b"secret")), "behind a passphrase"),
        (lambda key: pem(key)[:70], "no private key in PEM"),
        (lambda key: key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "no private key in PEM"),
        (lambda _: b"", "no private key in PEM"),
        (lambda _: pem(rsa.generate_private_key(65537, 2048)), "of the kind RSA, not Ed25519"),
        (lambda _: pem(ec.generate_private_key(ec.SECP256R1())), "of the kind EC, not Ed25519"),
        (lambda _: pem(ed448.Ed448PrivateKey.generate()), "of the kind Ed448, not Ed25519"),
    ],
)
def test_a_file_that_holds_no_such_key_is_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "door.key"
    path.write_bytes(content(Ed25519PrivateKey.generate()))
    with pytest.raises(InputError, match=words) as caught:
        load_key(path)
    assert (caught.value.reason, caught.value.exit_code) == ("bad_key", 2)
    assert "\n" not in str(caught.value)


def test_keys_of_openssl_are_as_good(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    private, public = tmp_path / "door.key", tmp_path / "door.key.pub"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run([openssl, "pkey", "-in", private, "-pubout", "-out", public], check=True)
    assert verify(sign(MANIFEST, load_key(private)), MANIFEST) == load_public_key(public)
