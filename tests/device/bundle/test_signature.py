"""The signature of a bundle, and the keys that are trusted."""

import json
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.signature import (
    Signature,
    encode_signature,
    load_public_key,
    short_key,
    signed_bytes,
    verify,
)
from edge_oneshot_device.errors import InputError, IntegrityError
from tests import ROOT
from tests.raising import raises
from tests.samples.tiny import hex_of, sign_bundle

DOCUMENTATION = ROOT / "docs" / "reference" / "bundle.md"
MANIFEST = b'{"name": "door"}'
ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group, RFC 8032 5.1


def written(key, manifest: bytes = MANIFEST) -> bytes:
    return encode_signature(Signature(hex_of(key), key.sign(signed_bytes(manifest)).hex()))


def refused(content: bytes, manifest: bytes = MANIFEST) -> None:
    with pytest.raises(IntegrityError, match=r"manifest\.sig") as caught:
        verify(content, manifest)
    assert (caught.value.reason, caught.value.exit_code) == ("bad_signature", 3)


def test_a_signature_names_who_signed(key):
    assert verify(written(key), MANIFEST) == "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    assert short_key(hex_of(key)) == "03a107bff3ce10be"


def test_what_is_signed_and_how_it_is_written_never_changes(key):
    assert signed_bytes(b"{}") == b"edge-oneshot bundle v1\n{}"
    assert written(key) == (
        b'{"key":"03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8","signature":"'
        + key.sign(b'edge-oneshot bundle v1\n{"name": "door"}').hex().encode()
        + b'"}'
    )


def test_every_flipped_bit_of_signature_key_and_manifest_is_refused(key):
    content = written(key)
    for position in range(len(content)):
        for bit in range(8):
            edited = bytearray(content)
            edited[position] ^= 1 << bit
            refused(bytes(edited))
    for position in range(len(MANIFEST)):
        edited = bytearray(MANIFEST)
        edited[position] ^= 1
        refused(content, bytes(edited))


def test_another_keys_name_a_signature_of_something_else_and_one_without_the_prefix_are_refused(key, stranger):
    refused(encode_signature(Signature(hex_of(key), stranger.sign(signed_bytes(MANIFEST)).hex())))
    refused(written(key, b"{}"))
    refused(encode_signature(Signature(hex_of(key), key.sign(MANIFEST).hex())))


def test_a_second_signature_cannot_be_made_of_one(key):
    """S + L verifies where S does, unless S is asked to be below L (RFC 8032 5.1.7)."""
    raw = key.sign(signed_bytes(MANIFEST))
    other = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
    refused(encode_signature(Signature(hex_of(key), other.hex())))


def test_the_same_signature_in_any_other_writing_is_refused(key):
    content = written(key)
    parsed = json.loads(content)
    for other in (
        b"",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 1000,
        content + b"\n",
        b" " + content,
        content.replace(b":", b": "),
        json.dumps(dict(reversed(parsed.items())), separators=(",", ":")).encode(),
        content.replace(parsed["key"].encode(), parsed["key"].upper().encode()),
        content.replace(b'"key"', b'"k\\u0065y"'),
        content[:-1] + b',"key":"' + parsed["key"].encode() + b'"}',
        content[:-1] + b',"algorithm":"none"}',
        content[:-1] + b',"note":"' + b"x" * 10_000_000 + b'"}',
    ):
        refused(other)


def test_a_public_key_is_read_from_pem(key, public_file):
    assert load_public_key(public_file(key)) == hex_of(key)


def pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda key: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "is a private key"),
        (
            lambda key: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
            "is a private",
        ),
        (lambda key: key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "no public key in PEM"),
        (lambda key: key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "in PEM"),
        (lambda key: pem(key)[:60], "no public key in PEM"),
        (lambda key: pem(key).replace(b"A", b"B"), "no public key in PEM"),
        (lambda _: b"", "no public key in PEM"),
        (lambda _: bytes(100), "no public key in PEM"),
        (lambda _: pem(rsa.generate_private_key(65537, 2048)), "of the kind RSA, not Ed25519"),
        (lambda _: pem(ec.generate_private_key(ec.SECP256R1())), "of the kind EC, not Ed25519"),
        (lambda _: pem(x25519.X25519PrivateKey.generate()), "of the kind X25519, not Ed25519"),
    ],
)
def test_a_file_that_is_no_such_key_is_refused_in_one_line(content, words, key, tmp_path):
    path = tmp_path / "door.key"
    path.write_bytes(content(key))
    with raises(InputError, match=words, reason="bad_key") as caught:
        load_public_key(path)
    assert "\n" not in str(caught.value)


def test_a_missing_or_huge_file_is_no_key(tmp_path):
    with raises(InputError, reason="not_found"):
        load_public_key(tmp_path / "missing.pub")
    (tmp_path / "huge.pub").write_bytes(bytes((1 << 20) + 1))
    with raises(InputError, reason="file_too_large"):
        load_public_key(tmp_path / "huge.pub")


def test_openssl_agrees_with_signatures_right_and_wrong(key, public_file, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    (tmp_path / "message").write_bytes(b"edge-oneshot bundle v1\n" + MANIFEST)
    for signed, code in ((MANIFEST, 0), (b"{}", 1)):
        (tmp_path / "signature").write_bytes(bytes.fromhex(json.loads(written(key, signed))["signature"]))
        command = ["pkeyutl", "-verify", "-pubin", "-inkey", public_file(key), "-rawin", "-in", "message",
                   "-sigfile", "signature"]  # fmt: skip
        done = subprocess.run([openssl, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done


def documented(language: str, what: str) -> str:
    """A block of code of docs/reference/bundle.md."""
    blocks = DOCUMENTATION.read_text().split(f"```{language}\n")[1:]
    return next(block.split("```")[0] for block in blocks if what in block.split("```")[0])


def test_the_python_of_the_documentation_reads_a_bundle(make_bundle, key, tmp_path):
    path = sign_bundle(make_bundle(name="door"), key)
    script = documented("python", "zipfile") + '\nprint(manifest["name"], len(model))\n'
    command = [sys.executable, "-I", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["door", str(Bundle.open(path).manifest.variants[0].bytes)]


def test_the_commands_of_the_documentation_verify_a_signature(make_bundle, key, public_file, tmp_path):
    for program in ("bash", "unzip", "xxd", "openssl"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    sign_bundle(make_bundle(name="door"), key)
    public_file(key).rename(tmp_path / "door.key.pub")
    command = ["bash", "-c", documented("", "pkeyutl")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "Signature Verified Successfully\n"
