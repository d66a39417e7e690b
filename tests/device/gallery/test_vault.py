import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.errors import DeviceError, IntegrityError, MachineError
from edge_oneshot_device.gallery import database, roster
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.keys import KeySource, create_key
from edge_oneshot_device.gallery.transaction import Transaction
from edge_oneshot_device.gallery.vault import NONCE_BYTES, TAG_BYTES, SealError, Vault
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from tests import MODELS
from tests.raising import raises
from tests.samples.galleries import MINE, OTHER, SIZE, names, tampering, vectors

KEY = bytes(range(32))
ONE_MORE = "INSERT INTO template (person, fingerprint, sealed) SELECT person, fingerprint, sealed FROM template LIMIT 1"


# the seal


@settings(max_examples=25)
@given(st.binary(max_size=100), st.integers(0, 2**62), st.text(max_size=20))
def test_what_is_sealed_for_a_place_opens_there(plain: bytes, number: int, fingerprint: str) -> None:
    vault = Vault(KEY)
    sealed = vault.seal(plain, "template", number, fingerprint)
    assert len(sealed) == NONCE_BYTES + len(plain) + TAG_BYTES
    assert vault.open(sealed, "template", number, fingerprint) == plain
    assert Vault(KEY).open(sealed, "template", number, fingerprint) == plain


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("template",),
        ("template", 7),
        ("template", 8, MINE),
        ("template", 7, OTHER),
        ("person", 7, MINE),
        ("template", "7", MINE),
        ("template7", MINE),
        ("template", 7, MINE, ""),
    ],
)
def test_it_opens_in_no_other_place(place: tuple[str | int, ...]) -> None:
    sealed = Vault(KEY).seal(b"a template", "template", 7, MINE)
    with pytest.raises(SealError):
        Vault(KEY).open(sealed, *place)


def test_it_opens_with_no_other_key_and_not_when_any_bit_was_changed() -> None:
    vault = Vault(KEY)
    sealed = vault.seal(b"a template", "template", 7, MINE)
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            vault.open(bytes(altered), "template", 7, MINE)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            vault.open(sealed[:length], "template", 7, MINE)
    with pytest.raises(SealError):
        vault.open(sealed + b"\0", "template", 7, MINE)
    with pytest.raises(SealError):
        Vault(bytes(32)).open(sealed, "template", 7, MINE)


def test_the_same_template_is_never_sealed_alike() -> None:
    vault = Vault(KEY)
    assert len({vault.seal(b"a template", "template", 7, MINE) for _ in range(1000)}) == 1000


def test_a_name_has_another_tag_and_a_gallery_another_check_value_under_another_key() -> None:
    mine, other = Vault(KEY), Vault(bytes(32))
    assert mine.tag("ada") == Vault(KEY).tag("ada") != mine.tag("Ada")
    assert mine.tag("ada") != other.tag("ada")
    assert mine.check_value != other.check_value
    # of keys derived from the one key, none is another or the key itself
    assert len({mine.tag(""), mine.check_value.ljust(32), KEY}) == 3


def test_galleries_of_the_same_people_have_nothing_in_common(tmp_path: Path, key: KeySource) -> None:
    values: list[set[bytes]] = []
    for name in ("one.db", "two.db"):
        own = key if name == "one.db" else KeySource(tmp_path / "key of two")
        if own is not key:
            create_key(tmp_path / "key of two")
        with Gallery.open(tmp_path / name, MINE, SIZE, own, create=True) as gallery:
            gallery.enrol("ada", vectors(2), photos=[b"a photo"])
        with tampering(tmp_path / name) as connection:
            queries = ("SELECT tag FROM person", "SELECT record FROM person", "SELECT sealed FROM template",
                       "SELECT sealed FROM photo", "SELECT number FROM person", "SELECT mac FROM audit",
                       "SELECT check_value FROM epoch", "SELECT chain FROM epoch")  # fmt: skip
            values.append({bytes(str(row[0]), "ascii") for query in queries for row in connection.execute(query)})
    assert len(values[0]) == len(values[1]) == 10
    assert not values[0] & values[1]


# rows of the file, changed by somebody without the key


@pytest.mark.parametrize(
    "change",
    [
        # ciphertexts change places between persons, a template is copied to another person, a photo becomes a template
        """UPDATE template SET sealed = (SELECT other.sealed FROM template other WHERE other.person != template.person)
           WHERE person = (SELECT min(number) FROM person)""",
        """INSERT INTO template (person, fingerprint, sealed)
           SELECT (SELECT max(number) FROM person), fingerprint, sealed FROM template
           WHERE person = (SELECT min(number) FROM person)""",
        "UPDATE template SET person = (SELECT max(number) FROM person)",
        "UPDATE template SET sealed = (SELECT sealed FROM photo)",
        "UPDATE template SET sealed = (SELECT record FROM person LIMIT 1)",
        # two persons change names
        """UPDATE person SET record = (SELECT other.record FROM person other WHERE other.number != person.number)
           WHERE number = (SELECT min(number) FROM person)""",
        "UPDATE template SET sealed = zeroblob(44)",
        # a person goes on under another number
        "UPDATE person SET number = number + 1; UPDATE template SET person = person + 1",
    ],
)
def test_templates_and_names_open_where_they_were_sealed_only(gallery: Gallery, key: KeySource, change: str) -> None:
    gallery.enrol("ada", vectors(seed=1), photos=[vectors(seed=3).tobytes()])
    gallery.enrol("grace", vectors(seed=2))
    with tampering(gallery.path) as connection:
        connection.executescript(change)
    with Gallery.open(gallery.path, MINE, SIZE, key) as again, pytest.raises(IntegrityError) as refused:
        again.template_cache("cosine", "best")
    assert refused.value.reason == "gallery_corrupt"


def test_templates_cannot_be_passed_off_as_those_of_another_encoder(gallery: Gallery, key: KeySource) -> None:
    gallery.enrol("ada", vectors())
    with tampering(gallery.path) as connection:
        connection.execute("INSERT INTO encoder (fingerprint) VALUES (?)", (OTHER,))
        connection.execute("UPDATE template SET fingerprint = ?", (OTHER,))
    with Gallery.open(gallery.path, OTHER, SIZE, key) as again, pytest.raises(IntegrityError) as refused:
        again.template_cache("cosine", "best")
    assert refused.value.reason == "gallery_corrupt"


def test_more_templates_of_a_person_than_there_can_be_are_refused(gallery: Gallery, key: KeySource) -> None:
    gallery.enrol("ada", vectors(5))
    with tampering(gallery.path) as connection:
        connection.execute(ONE_MORE)
    with Gallery.open(gallery.path, MINE, SIZE, key) as again, pytest.raises(IntegrityError) as refused:
        again.template_cache("cosine", "best")
    assert refused.value.reason == "gallery_corrupt"


def test_the_tag_of_one_name_cannot_be_given_to_another_person(gallery: Gallery, key: KeySource) -> None:
    gallery.enrol("ada", vectors(seed=1))
    gallery.enrol("mallory", vectors(seed=2))
    with tampering(gallery.path) as connection:
        tags = dict(connection.execute("SELECT number, tag FROM person").fetchall())
        (ada, mallory) = (gallery.number_of(name) for name in ("ada", "mallory"))
        connection.execute("UPDATE person SET tag = zeroblob(32) WHERE number = ?", (ada,))
        connection.execute("UPDATE person SET tag = ? WHERE number = ?", (tags[ada], mallory))
    with Gallery.open(gallery.path, MINE, SIZE, key) as again:
        for wrong in (again.number_of, again.forget):
            with raises(IntegrityError, match="the tag of another name", reason="gallery_corrupt"):
                wrong("ada")


# what a copy gives away, and what is left of somebody forgotten


def traces(path: Path) -> dict[bytes, str]:
    """All that is kept of people, sealed or hashed."""
    queries = {
        "tag": "SELECT tag FROM person",
        "record": "SELECT record FROM person",
        "template": "SELECT sealed FROM template",
        "photo": "SELECT sealed FROM photo",
    }
    with tampering(path) as connection:
        return {row[0]: what for what, query in queries.items() for row in connection.execute(query)}


def left_over(content: bytes, gone: dict[bytes, str]) -> list[str]:
    """What of these is in the file still: any 16 bytes of it."""
    pieces = [(value[at : at + 16], what) for value, what in gone.items() for at in range(0, len(value) - 15, 16)]
    return [what for piece, what in pieces if piece in content]


def test_nothing_that_was_said_of_a_person_can_be_read_in_the_file(gallery: Gallery) -> None:
    access = Access("2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z", "mon-fri 07:00-19:00")
    gallery.enrol("Ada Lovelace", vectors(), photos=[b"\x89PNG a photo"], access=access)
    gallery.set_access("Ada Lovelace", access)
    content = gallery.path.read_bytes()
    for secret in (b"Ada", b"Lovelace", vectors().tobytes()[:8], b"PNG"):
        assert secret not in content


def test_nothing_of_whoever_was_forgotten_or_replaced_is_left_in_the_file(gallery: Gallery) -> None:
    photos = [np.random.default_rng(size).bytes(size) for size in (100, 3000, 20000)]
    for name in ("Person A", "Person B", "Person C"):
        gallery.enrol(name, vectors(3), photos=photos)
    for change in (
        lambda: gallery.enrol("Person B", vectors(5), replace=True, photos=photos[:2]),
        lambda: gallery.forget("Person A"),
        lambda: gallery.enrol("Person A", vectors(2)),
        lambda: gallery.forget("Person B"),
        lambda: gallery.forget("Person C"),
        lambda: gallery.forget("Person A"),
    ):
        before = traces(gallery.path)
        change()
        now = traces(gallery.path)
        content = gallery.path.read_bytes()
        assert left_over(content, {value: what for value, what in before.items() if value not in now}) == []
        assert len(left_over(content, now)) >= len(now)  # who stays is there, so that the search does find
        assert not gallery.path.with_name(gallery.path.name + "-journal").exists()
    assert traces(gallery.path) == {}


def test_nor_is_it_where_rows_were_moved_between_pages(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    # numbers of which secure_delete alone leaves a tag in the unused part of a page
    choose = random.Random(108)
    monkeypatch.setattr(roster, "new_number", lambda: choose.getrandbits(62))
    enrolled: list[str] = []
    forgotten = 0
    for step in range(110):
        if step < 60 or choose.random() < 0.5:
            enrolled.append(f"Person Number {step}")
            gallery.enrol(enrolled[-1], vectors())
            continue
        before = traces(gallery.path)
        gallery.forget(enrolled.pop(choose.randrange(len(enrolled))))
        forgotten += 1
        now = traces(gallery.path)
        gone = {value: what for value, what in before.items() if value not in now}
        assert sorted(gone.values()) == ["record", "tag", "template"]
        assert left_over(gallery.path.read_bytes(), gone) == []
    assert forgotten > 20


def test_a_file_whose_unused_parts_cannot_be_overwritten_is_told_and_the_person_is_forgotten(gallery, monkeypatch):
    gallery.enrol("ada", vectors())
    gallery.enrol("grace", vectors())
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    writing = gallery.writing
    with tampering(gallery.path) as reader:

        @contextmanager
        def and_then_somebody_reads() -> Iterator[Transaction]:
            with writing() as transaction:
                yield transaction
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM person").fetchone()

        monkeypatch.setattr(gallery, "writing", and_then_somebody_reads)
        with pytest.raises(MachineError, match=r"sealed traces .* may be left .* the next command") as failed:
            gallery.forget("ada")
    assert failed.value.reason == "not_wiped"
    monkeypatch.undo()
    assert names(gallery) == ["grace"]
    assert gallery.check_audit().people == 1


def test_a_gallery_of_the_first_version_leaves_nothing_in_the_clear(tmp_path: Path, key: KeySource) -> None:
    former = (MODELS / "gallery-v1.db").read_bytes()
    secrets = {b"ada", "Zoë".encode(), np.array([0.5, -0.5, 0.5, -0.5], "<f4").tobytes()}
    assert all(secret in former for secret in secrets)
    left = secrets
    for name in ("one", "two", "three"):  # what is sealed holds three such bytes by chance, once in 200 files
        path = tmp_path / f"{name}.db"
        path.write_bytes(former)
        with Gallery.open(path, MINE, SIZE, key, create=True) as gallery:
            assert names(gallery) == ["Zoë", "ada"]
        left = {secret for secret in left if secret in path.read_bytes()}
    assert left == set()


def test_photos_are_kept_only_when_asked_and_die_with_the_person(make_bundle, people, tmp_path):
    bundle = make_bundle()

    def kept() -> int:
        with tampering(tmp_path / "state" / "gallery.db") as connection:
            return int(connection.execute("SELECT count(*) FROM photo").fetchone()[0])

    installer.install(bundle, tmp_path / "state")
    with Recognizer.open(tmp_path / "state") as recognizer:
        recognizer.enrol("ada", people["ada"][0])
    assert kept() == 0
    installer.install(bundle, tmp_path / "state", InstallOptions(keep_photos=True))
    with Recognizer.open(tmp_path / "state") as recognizer:
        recognizer.enrol("grace", *people["grace"][:2])
        recognizer.enrol("grace", people["grace"][2], add=True)
        assert kept() == 3
        recognizer.enrol("grace", people["grace"][3], replace=True)
        assert kept() == 1
        assert people["grace"][3][:64] not in (tmp_path / "state" / "gallery.db").read_bytes()
        recognizer.forget("grace")
        assert kept() == 0


def test_a_gallery_that_was_altered_ends_a_command_with_3_and_one_line(make_bundle, people, tmp_path, capfd):
    folder = tmp_path / "state"
    installer.install(make_bundle(), folder)
    image = tmp_path / "ada.png"
    image.write_bytes(people["ada"][0])
    with Recognizer.open(folder) as recognizer:
        recognizer.enrol("ada", *people["ada"][:5])
    whole = (folder / "gallery.db").read_bytes()
    decide = [["verify", "ada", str(image)], ["identify", str(image)], ["doctor"]]
    check = [["audit", "--check"], ["doctor"]]
    for change, commands in (
        ("DELETE FROM template", check),
        (ONE_MORE, decide + check),
        ("UPDATE person SET record = zeroblob(50)", decide),
        ("DELETE FROM epoch", decide + check),
        ("UPDATE epoch SET chain = zeroblob(60)", decide + check),
        ("DELETE FROM audit", decide + check),
    ):
        (folder / "gallery.db").write_bytes(whole)
        with tampering(folder / "gallery.db") as connection:
            connection.execute(change)
        for command in commands:
            assert cli.main([*command, "--state", str(folder)]) == 3, (change, command)
            assert "internal error" not in capfd.readouterr().err


def test_an_error_of_the_seal_is_never_seen_outside(gallery: Gallery) -> None:
    assert not issubclass(SealError, DeviceError)
    gallery.enrol("ada", vectors())
    with tampering(gallery.path) as connection:
        connection.execute("UPDATE person SET record = x'00'")
    with raises(IntegrityError, reason="gallery_corrupt"):
        gallery.people()
