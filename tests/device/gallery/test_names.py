"""Names that nobody can tell from another's are refused to whoever comes, and people who have one can still go."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.people import new_name, person_name
from tests.raising import raises
from tests.samples.galleries import names

# DerivedCoreProperties.txt of Unicode 16: Default_Ignorable_Code_Point
IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
BLANK = (0x2800, 0x2D7F, 0x1107F, 0x13441, 0x13442, 0x16FE4, 0x1D159)
SPACES = [code for code in range(0x10000) if unicodedata.category(chr(code)) in ("Zs", "Zl", "Zp") and code != 0x20]


@pytest.mark.parametrize(("first", "last"), IGNORABLE)
def test_no_character_that_unicode_lets_nobody_see_is_in_a_name(first: int, last: int) -> None:
    for code in range(first, last + 1):
        for name in (f"ada{chr(code)}", f"a{chr(code)}da", f"{chr(code)}ada", chr(code)):
            with raises(InputError, reason="bad_name") as refused:
                new_name(name)
            assert str(refused.value).isascii()


@pytest.mark.parametrize("code", [*BLANK, *SPACES])
def test_a_name_with_a_blank_character_is_refused(code: int) -> None:
    with raises(InputError, reason="bad_name"):
        new_name(f"ada{chr(code)}lovelace")


@pytest.mark.parametrize("name", ["\u0301ada", "\u20ddada", "\u0903"])
def test_a_name_does_not_begin_with_a_mark_which_would_join_what_stands_before_it(name: str) -> None:
    with raises(InputError, reason="bad_name"):
        new_name(name)


@pytest.mark.parametrize(
    "name",
    ["ada", "Ada Lovelace", "O'Brien", "Zoë", "Zoe\u0308", "Łukasz", "Ольга", "Ελένη", "محمد", "דָּוִד", "अनुष्का", "வள்ளி",
     "ភាសា", "김민준", "山田 太郎", "ﾀﾛｳ", "Nguyễn", "7 of 9", "🙂"],
)  # fmt: skip
def test_names_of_people_are_taken(name: str) -> None:
    assert new_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("one", ["ada", "adá", "김"])
@pytest.mark.parametrize("code", [0x34F, 0x3164, 0x2800, 0xFE0F, 0xFFA0, 0x115F, 0x202E])
def test_two_people_cannot_have_names_that_differ_by_what_nobody_sees(tmp_path: Path, one: str, code: int) -> None:
    template = np.ones((1, 4), np.float32)
    with Gallery.open(tmp_path / "gallery.db", "f" * 64, 4, create=True) as gallery:
        gallery.enrol(one, template)
        for other in (one + chr(code), chr(code) + one, one[:1] + chr(code) + one[1:]):
            with pytest.raises(InputError, match="is no name for a person"):
                gallery.enrol(other, template)
        assert names(gallery) == [one]


def test_whoever_was_enrolled_under_such_a_name_before_can_be_forgotten(tmp_path, monkeypatch):
    with Gallery.open(tmp_path / "gallery.db", "f" * 64, 4, create=True) as gallery:
        with monkeypatch.context() as former:
            former.setattr("edge_oneshot_device.gallery.roster.new_name", person_name)
            gallery.enrol("ada\ufe0f", np.ones((1, 4), np.float32))
        assert gallery.forget("ada\ufe0f").reason == "forgotten"
