"""Opening a bundle: whatever was done to the file, it is whole or it is refused."""

import hashlib
import io
import json
import struct
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot_device.bundle.bundle import MAX_MANIFEST_BYTES, Bundle
from edge_oneshot_device.bundle.codec import encode_manifest
from edge_oneshot_device.bundle.fields import MAX_BUNDLE_BYTES
from edge_oneshot_device.bundle.manifest import MANIFEST_NAME
from edge_oneshot_device.bundle.signature import SIGNATURE_NAME
from edge_oneshot_device.errors import InputError, IntegrityError, MachineError
from tests.raising import raises
from tests.samples.pictures import members
from tests.samples.tiny import hex_of, sign_bundle, zip_stored

LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"
# Offsets of fields in a local header, a central directory entry and the end record.
LOCAL_FLAGS, LOCAL_METHOD, LOCAL_CRC, LOCAL_STORED, LOCAL_SIZE, LOCAL_NAME_SIZE, LOCAL_EXTRA = 6, 8, 14, 18, 22, 26, 28
FLAGS, METHOD, CRC, STORED, SIZE, NAME_SIZE, EXTRA, COMMENT, DISK, OFFSET = 8, 10, 16, 20, 24, 28, 30, 32, 34, 42
END_DISK, END_DISK_COUNT, END_COUNT, END_SIZE, END_OFFSET, END_COMMENT = 4, 8, 10, 12, 16, 20


@pytest.fixture
def content(make_bundle) -> bytes:
    return make_bundle(variants=("int8",), counts=(1,)).read_bytes()


@pytest.fixture
def files(content) -> dict[str, bytes]:
    return members(content)


def refused(content: bytes, reason: str, message: str | None = None) -> None:
    with raises(IntegrityError, match=message, reason=reason) as caught:
        Bundle.open(content)
    assert "\n" not in str(caught.value)


def patched(content: bytes, *patches: tuple[int, str, int]) -> bytes:
    """The content with little-endian numbers put at positions."""
    edited = bytearray(content)
    for position, kind, value in patches:
        struct.pack_into(kind, edited, position, value)
    return bytes(edited)


def test_a_whole_bundle_opens_from_its_path_and_from_its_content(make_bundle, files):
    path = make_bundle(variants=("int8",), counts=(1,))
    bundle = Bundle.open(path)
    assert bundle.content == path.read_bytes()
    assert bundle.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert encode_manifest(bundle.manifest) == files.pop(MANIFEST_NAME)
    assert dict(bundle.members) == files
    assert bundle.read("models/tiny-int8.tflite") == files["models/tiny-int8.tflite"]
    for source in (str(path), path.read_bytes()):
        assert Bundle.open(source) == bundle


def test_only_listed_members_can_be_read(content):
    bundle = Bundle.open(content)
    for path in (MANIFEST_NAME, "models/other.tflite", "../etc/passwd"):
        with pytest.raises(KeyError):
            bundle.read(path)
    with pytest.raises(TypeError):
        bundle.members["models/tiny-int8.tflite"] = b"other"


def test_a_missing_bundle_a_folder_and_an_unreadable_file_are_told_apart(tmp_path):
    with raises(InputError, reason="not_found"):
        Bundle.open(tmp_path / "missing.oneshot")
    with raises(InputError, reason="not_a_file"):
        Bundle.open(tmp_path)
    with raises(MachineError, reason="cannot_read"):
        Bundle.open("/proc/self/mem")


def test_the_refusal_names_the_file(tmp_path):
    path = tmp_path / "door.oneshot"
    path.write_bytes(b"no bundle")
    with pytest.raises(IntegrityError, match=r"door\.oneshot is refused: "):
        Bundle.open(path)


@pytest.mark.parametrize("junk", [b"", b"PK", b"x" * 22, END + b"\0" * 17, END + b"\0" * 18, b"PK\5\6" * 100])
def test_what_is_no_bundle_is_refused(junk):
    refused(junk, "not_a_bundle")


def test_an_archive_without_a_manifest_is_refused(files):
    del files[MANIFEST_NAME]
    refused(zip_stored(files), "not_a_bundle", "no manifest.json")


def test_a_damaged_or_oversized_manifest_is_refused(files):
    refused(zip_stored(files | {MANIFEST_NAME: b"{}"}), "bad_manifest")
    padded = files[MANIFEST_NAME].ljust(MAX_MANIFEST_BYTES)
    assert Bundle.open(zip_stored(files | {MANIFEST_NAME: padded}))
    refused(zip_stored(files | {MANIFEST_NAME: padded + b" "}), "bad_manifest", "larger than 4 MiB")


def test_missing_unlisted_and_exchanged_members_are_refused(files):
    model = "models/tiny-int8.tflite"
    refused(zip_stored({name: data for name, data in files.items() if name != model}), "member_mismatch", "is missing")
    refused(zip_stored(files | {"models/extra.tflite": b"x"}), "member_mismatch", "extra.tflite.*does not list")
    refused(zip_stored(files | {"../../etc/cron.d/x": b"x"}), "member_mismatch")
    refused(zip_stored(files | {"models/": b""}), "member_mismatch")
    refused(zip_stored(files | {model: files[model][:-1] + b"x"}), "member_mismatch", "is not the one")
    refused(zip_stored(files | {model: files[model] + b"x"}), "member_mismatch", "is not the one")
    refused(zip_stored(files | {model: b""}), "member_mismatch", "is not the one")


def test_a_member_given_twice_is_refused(files):
    for name in (MANIFEST_NAME, "models/tiny-int8.tflite"):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as writer:
            for member, data in files.items():
                writer.writestr(zipfile.ZipInfo(member), data)
            with pytest.warns(UserWarning, match="Duplicate name"):
                writer.writestr(zipfile.ZipInfo(name), files[name])
        refused(archive.getvalue(), "not_a_bundle", "twice")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_member_is_refused(files, method):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as writer:
        for name, data in files.items():
            writer.writestr(name, data)
    refused(archive.getvalue(), "not_a_bundle", "compressed or encrypted")


@pytest.mark.parametrize("where", ["front", "middle", "before the directory", "back", "comment"])
def test_bytes_that_belong_to_no_member_are_refused(content, where):
    end = content.rindex(END)
    directory = content.index(CENTRAL)
    second = content.index(LOCAL, 4)
    spare = b"spare"
    edited = {
        "front": spare + content,
        "middle": content[:second] + spare + content[second:],
        "before the directory": content[:directory] + spare + content[directory:],
        "back": content + spare,
        "comment": patched(content, (end + END_COMMENT, "<H", len(spare))) + spare,
    }[where]
    refused(edited, "not_a_bundle")
    # And so when every offset is put right, as an ordinary zip reader would accept it.
    if where in {"front", "middle", "before the directory"}:
        shift = len(spare)
        edited = bytearray(edited)
        position = edited.index(CENTRAL)
        struct.pack_into("<I", edited, edited.rindex(END) + END_OFFSET, position)
        for _ in range(struct.unpack_from("<H", edited, edited.rindex(END) + END_COUNT)[0]):
            offset, name_size = (
                struct.unpack_from("<I", edited, position + OFFSET)[0],
                struct.unpack_from("<H", edited, position + NAME_SIZE)[0],
            )
            if where == "front" or (where == "middle" and offset):
                struct.pack_into("<I", edited, position + OFFSET, offset + shift)
            position += 46 + name_size
        with zipfile.ZipFile(io.BytesIO(bytes(edited))) as archive:
            assert archive.testzip() is None
        refused(bytes(edited), "not_a_bundle")


def test_a_header_that_lies_is_refused(content):
    end, entry, second = content.rindex(END), content.index(CENTRAL), content.index(LOCAL, 4)
    size = struct.unpack_from("<I", content, entry + SIZE)[0]
    lies = {
        "encrypted": [(FLAGS + entry, "<H", 1), (LOCAL_FLAGS, "<H", 1)],
        "encrypted in one header": [(LOCAL_FLAGS, "<H", 1)],
        "sizes after the content": [(FLAGS + entry, "<H", 8), (LOCAL_FLAGS, "<H", 8)],
        "a method that is none": [(METHOD + entry, "<H", 0xFFFF), (LOCAL_METHOD, "<H", 0xFFFF)],
        "two methods": [(LOCAL_METHOD, "<H", 8)],
        "two checksums": [(LOCAL_CRC, "<I", 0)],
        "a false checksum": [(CRC + entry, "<I", 0), (LOCAL_CRC, "<I", 0)],
        "two sizes": [(LOCAL_SIZE, "<I", size - 1)],
        "a stored size": [(STORED + entry, "<I", size - 1), (LOCAL_STORED, "<I", size - 1)],
        "a longer member": [(p, "<I", size + 1) for p in (STORED + entry, SIZE + entry, LOCAL_STORED, LOCAL_SIZE)],
        "a huge member": [(p, "<I", 2**32 - 1) for p in (STORED + entry, SIZE + entry, LOCAL_STORED, LOCAL_SIZE)],
        "a name of another length": [(NAME_SIZE + entry, "<H", 12)],
        "a local name of another length": [(LOCAL_NAME_SIZE, "<H", 12)],
        "a name past the end": [(NAME_SIZE + entry, "<H", 0xFFFF), (LOCAL_NAME_SIZE, "<H", 0xFFFF)],
        "another local name": [(30, "<B", ord("M"))],
        "another name": [(46 + entry, "<B", ord("M"))],
        "a name outside ASCII": [(30, "<B", 0xFC), (46 + entry, "<B", 0xFC)],
        "an extra field": [(EXTRA + entry, "<H", 4)],
        "a local extra field": [(LOCAL_EXTRA, "<H", 4)],
        "a member's comment": [(COMMENT + entry, "<H", 4)],
        "another disk": [(DISK + entry, "<H", 1)],
        "an offset inside the member": [(OFFSET + entry, "<I", 1)],
        "an offset past the end": [(OFFSET + entry, "<I", 2**32 - 1)],
        "two members at one place": [(OFFSET + entry, "<I", second)],
        "no member": [(END_COUNT + end, "<H", 0), (END_DISK_COUNT + end, "<H", 0)],
        "one member less": [(p + end, "<H", 3) for p in (END_COUNT, END_DISK_COUNT)],
        "one member more": [(p + end, "<H", 5) for p in (END_COUNT, END_DISK_COUNT)],
        "two counts": [(END_DISK_COUNT + end, "<H", 3)],
        "zip64": [(END_COUNT + end, "<H", 0xFFFF), (END_DISK_COUNT + end, "<H", 0xFFFF)],
        "the end on another disk": [(END_DISK + end, "<H", 1)],
        "a directory elsewhere": [(END_OFFSET + end, "<I", entry - 1)],
        "a directory past the end": [(END_OFFSET + end, "<I", 2**32 - 1)],
        "a shorter directory": [(END_SIZE + end, "<I", 46)],
        "no signature": [(0, "<B", 0)],
        "no signature in the directory": [(entry, "<B", 0)],
    }
    assert struct.unpack_from("<H", content, end + END_COUNT) == (4,)
    for lie, patches in lies.items():
        edited = patched(content, *patches)
        assert edited != content, lie
        with pytest.raises(IntegrityError) as caught:
            Bundle.open(edited)
        assert caught.value.reason == "not_a_bundle", lie


def test_an_entry_that_points_at_another_members_content_is_refused():
    """Two entries of one content, the way an overlap bomb is made."""
    content = zip_stored({"a": b"x" * 50, "b": b"x" * 50})
    first, second = content.index(CENTRAL), content.rindex(CENTRAL)
    refused(patched(content, (second + OFFSET, "<I", 0), (second + 46, "<B", ord("a"))), "not_a_bundle")
    refused(patched(content, (first + OFFSET, "<I", content.index(LOCAL, 4))), "not_a_bundle")


def test_a_zip64_archive_is_refused(files):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        for name, data in files.items():
            with writer.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(data)
    refused(archive.getvalue(), "not_a_bundle")


def test_a_member_whose_checksum_was_put_right_is_refused_by_its_digest(content, files):
    """Whoever can compute a CRC-32 is stopped by the SHA-256 in the manifest."""
    model = files["models/tiny-int8.tflite"]
    altered = model[:100] + bytes([model[100] ^ 1]) + model[101:]
    edited = content.replace(model, altered).replace(
        struct.pack("<I", zlib.crc32(model)), struct.pack("<I", zlib.crc32(altered))
    )
    with zipfile.ZipFile(io.BytesIO(edited)) as archive:
        assert archive.testzip() is None
    refused(edited, "member_mismatch", "tiny-int8.tflite is not the one")


def test_a_bundle_over_the_limit_is_refused(tmp_path):
    path = tmp_path / "large.oneshot"
    with path.open("wb") as file:
        file.truncate(MAX_BUNDLE_BYTES + 1)
    with pytest.raises(InputError, match="larger than 256 MiB"):
        Bundle.open(path)
    refused(bytes(MAX_BUNDLE_BYTES + 1), "not_a_bundle", "larger than 256 MiB")


def test_a_bundle_with_any_edit_is_refused_or_means_the_same(content):
    original = Bundle.open(content)
    position = st.integers(0, len(content) - 1)
    edits = st.one_of(
        st.tuples(position, st.binary(max_size=3), st.integers(0, 3)),  # flip, insert, delete
        st.tuples(position, st.just(b""), st.just(len(content))),  # truncate
        st.tuples(st.integers(content.index(CENTRAL), len(content)), st.binary(max_size=3), st.integers(0, 3)),
    )

    @settings(max_examples=500)
    @given(edits)
    def check(edit: tuple[int, bytes, int]) -> None:
        start, inserted, removed = edit
        edited = content[:start] + inserted + content[start + removed :]
        try:
            bundle = Bundle.open(edited)
        except IntegrityError:
            return
        assert bundle.manifest == original.manifest
        assert bundle.members == original.members
        assert bundle.content == edited

    check()


def test_every_flipped_bit_of_the_headers_is_refused_or_means_the_same(content):
    original = Bundle.open(content)
    directory = content.index(CENTRAL)
    tolerated = 0
    for position in [*range(30), *range(directory, len(content))]:
        for bit in range(8):
            edited = patched(content, (position, "<B", content[position] ^ (1 << bit)))
            try:
                bundle = Bundle.open(edited)
            except IntegrityError:
                continue
            assert (bundle.manifest, bundle.members) == (original.manifest, original.members)
            tolerated += 1
    # What says nothing of the content: per entry "made by" and the attributes.
    assert tolerated == 4 * 8 * (2 + 2 + 4)


# signed


@pytest.fixture
def signed(content, key, tmp_path) -> bytes:
    path = tmp_path / "signed.oneshot"
    path.write_bytes(content)
    return sign_bundle(path, key).read_bytes()


def test_a_signed_bundle_says_who_signed_and_is_the_unsigned_one_else(content, signed, key):
    assert list(members(signed))[:2] == [MANIFEST_NAME, SIGNATURE_NAME]
    bundle, unsigned = Bundle.open(signed), Bundle.open(content)
    assert (bundle.signed_by, unsigned.signed_by) == (hex_of(key), None)
    assert (bundle.manifest, bundle.members) == (unsigned.manifest, unsigned.members)
    with pytest.raises(KeyError):
        bundle.read(SIGNATURE_NAME)
    assert Bundle.open(signed, trust=hex_of(key)) == bundle


def test_where_a_key_is_trusted_nothing_else_opens(content, signed, key, stranger):
    for file, trust, reason in (
        (content, hex_of(key), "unsigned"),
        (signed, hex_of(stranger), "untrusted_key"),
        (signed, hex_of(key).upper(), "untrusted_key"),
        (signed, "", "untrusted_key"),
    ):
        with raises(IntegrityError, reason=reason) as caught:
            Bundle.open(file, trust=trust)
        assert "\n" not in str(caught.value)


def test_a_signature_is_checked_whether_or_not_a_key_is_trusted(signed, key):
    files = members(signed)
    other = files | {MANIFEST_NAME: files[MANIFEST_NAME] + b"\n"}
    bad = files | {SIGNATURE_NAME: b"{}"}
    for trust in (None, hex_of(key)):
        for altered in (other, bad):
            with raises(IntegrityError, reason="bad_signature"):
                Bundle.open(zip_stored(altered), trust=trust)


def test_a_signature_is_checked_before_the_manifest_is_parsed(signed, key, stranger, tmp_path):
    path = tmp_path / "garbage.oneshot"
    path.write_bytes(zip_stored(members(signed) | {MANIFEST_NAME: b"[" * 1_000_000}))
    with raises(IntegrityError, reason="untrusted_key"):
        Bundle.open(sign_bundle(path, stranger), trust=hex_of(key))
    with raises(IntegrityError, reason="bad_manifest"):
        Bundle.open(sign_bundle(path, key), trust=hex_of(key))


def test_manifest_and_signature_have_their_places(signed, files):
    bound = members(signed)[SIGNATURE_NAME]
    text = files.pop(MANIFEST_NAME)
    refused(
        zip_stored({SIGNATURE_NAME: bound, MANIFEST_NAME: text, **files}), "not_a_bundle", "manifest.json is not its"
    )
    refused(
        zip_stored({MANIFEST_NAME: text, **files, SIGNATURE_NAME: bound}), "not_a_bundle", "manifest.sig is not its"
    )
    refused(zip_stored({**files, MANIFEST_NAME: text}), "not_a_bundle", "is not its member number 1")


def test_a_manifest_cannot_list_its_own_signature(make_bundle, key):
    def list_signature(plain: dict) -> None:
        plain["members"].append({"path": SIGNATURE_NAME, "bytes": 1, "sha256": "0" * 64})

    path = make_bundle(variants=("int8",), counts=(1,), change=list_signature)
    refused(path.read_bytes(), "bad_manifest", "lists manifest.sig")
    refused(sign_bundle(path, key).read_bytes(), "bad_manifest", "lists manifest.sig")


def test_every_flipped_bit_of_a_signed_bundle_is_refused_or_means_the_same(signed, key):
    original = Bundle.open(signed)
    directory = signed.index(CENTRAL)
    second = signed.index(LOCAL, 4)
    for position in [*range(30), *range(second, signed.index(LOCAL, second + 4)), *range(directory, len(signed))]:
        edited = patched(signed, (position, "<B", signed[position] ^ 1))
        try:
            bundle = Bundle.open(edited, trust=hex_of(key))
        except IntegrityError:
            continue
        assert (bundle.manifest, bundle.members) == (original.manifest, original.members)


def test_a_pin_that_was_rewritten_with_the_bundle_does_not_stand_for_the_trusted_signature(signed, key):
    model = "models/tiny-int8.tflite"
    own = members(signed)
    altered = zip_stored(own | {model: own[model][:-1] + b"x"})
    pinned = hashlib.sha256(altered).hexdigest()
    with raises(IntegrityError, reason="member_mismatch"):
        Bundle.open(altered, trust=hex_of(key), pinned=pinned)


def test_a_refusal_quotes_no_more_than_a_line(files):
    refused(zip_stored(files | {"\x1b[2J" * 5000: b""}), "member_mismatch", r"it holds '\\x1b\[2J")
    for key in ("a" * 1_000_000, "\n" * 1000):
        text = files[MANIFEST_NAME][:-1] + f", {json.dumps(key)}: 0}}".encode()
        with pytest.raises(IntegrityError) as caught:
            Bundle.open(zip_stored(files | {MANIFEST_NAME: text}))
        assert len(str(caught.value)) < 500
        assert str(caught.value).isprintable()
