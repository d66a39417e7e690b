"""LFW's list of pairs and its folders: what is read, and what is wrong is said with its line."""

import re

import pytest
from PIL import Image

from edge_oneshot.data.lfw import load_lfw
from edge_oneshot.data.loading import default_input
from edge_oneshot.errors import DataError
from tests.raising import raises

SECTION = default_input("a folder", size=8)
PAIRS = "\n".join(["2\t1", "Ada_Byron\t1\t2", "Ada_Byron\t1\tBob\t1", "Cy\t1\t3", "Bob\t1\tCy\t3"])
PHOTOS = ("Ada_Byron/Ada_Byron_0001", "Ada_Byron/Ada_Byron_0002", "Bob/Bob_0001", "Cy/Cy_0001", "Cy/Cy_0003")


@pytest.fixture
def make_lfw(tmp_path):
    """A folder of LFW's layout, each photo of another level; the people's folders below `under`."""

    def make(pairs=PAIRS, under="."):
        for number, name in enumerate(PHOTOS):
            path = tmp_path / "lfw" / under / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (16, 16), 40 * number).save(path)
        if pairs is not None:
            (tmp_path / "lfw" / "pairs.txt").write_text(pairs)
        return tmp_path / "lfw"

    return make


@pytest.mark.parametrize("under", [".", "lfw_funneled"])
def test_pairs_are_read_with_their_folds_and_each_photo_once(make_lfw, under):
    found = load_lfw(make_lfw(under=under), SECTION)
    assert found.images[:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160]
    assert found.pairs.tolist() == [[0, 1], [0, 2], [3, 4], [2, 4]]
    assert found.same.tolist() == [True, False, True, False]
    assert found.folds.tolist() == [0, 0, 1, 1]
    assert found.people == 3
    assert found.shown.all()
    assert found.faults == (None,) * 5


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (None, "0 files called pairs.txt, one is needed"),
        ("", "line 1 gives no two numbers"),
        ("ten\t300\n", "line 1 gives no two numbers"),
        (PAIRS.replace("2\t1", "10\t300", 1), "line 1 says 10 folds of twice 300 pairs, but 4 follow"),
        (PAIRS.replace("2\t1", "1\t2", 1), "line 1 says 1 folds"),
        (PAIRS.replace("Ada_Byron\t1\t2", "Ada_Byron 1 2"), "line 2 is no PERSON N M with tabs"),
        (PAIRS.replace("Ada_Byron\t1\tBob\t1", "Ada_Byron\t1\t2"), "line 3 is no PERSON N OTHER M with tabs"),
        (PAIRS.replace("Cy\t1\t3", "Cy\tone\t3"), "line 4 is no PERSON N M with tabs"),
        (PAIRS.replace("Cy\t1\t3", "Cy\t2\t3"), "1 of 5 photos are missing, such as Cy/Cy_0002; unpack all of LFW"),
    ],
)
def test_a_list_that_is_not_lfws_is_refused(make_lfw, pairs, words):
    with pytest.raises(DataError, match=re.escape(words)):
        load_lfw(make_lfw(pairs), SECTION)


def test_two_versions_of_lfw_in_one_folder_are_refused(make_lfw):
    make_lfw(under="lfw")
    with raises(DataError, match="Ada_Byron_0001 exists twice", reason="ambiguous"):
        load_lfw(make_lfw(under="lfw_funneled"), SECTION)


def test_a_photo_that_cannot_be_read_is_named(make_lfw):
    folder = make_lfw()
    (folder / "Bob" / "Bob_0001.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"Bob/Bob_0001\.png: .* is no PNG"):
        load_lfw(folder, SECTION)
