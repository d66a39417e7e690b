"""Omniglot: the real archives, and every way in which they can be missing or not whole."""

import hashlib
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

from edge_oneshot.data import omniglot
from edge_oneshot.data.download import Remote
from edge_oneshot.data.loading import default_input, load_data
from edge_oneshot.errors import DataError
from edge_oneshot_device.encoding.preprocessing import load_image
from tests.raising import raises
from tests.real_data import OMNIGLOT
from tests.samples.pictures import encoded, pack

DRAWN = default_input("omniglot")
SMALL = default_input("omniglot", size=8)

needs_background = pytest.mark.skipif(
    not (OMNIGLOT / "images_background.zip").is_file(), reason="Omniglot's background set is not on this machine"
)
needs_runs = pytest.mark.skipif(
    not (OMNIGLOT / "all_runs.zip").is_file(), reason="Omniglot's one-shot runs are not on this machine"
)


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("EDGE_ONESHOT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/edge-oneshot/omniglot"


def picture(value: int = 0) -> bytes:
    image = Image.new("L", (8, 8), 255)
    image.putpixel((value % 8, value // 8 % 8), 0)
    return encoded(image)


def drawn(folder: str, sizes: Iterable[int]) -> dict[str, bytes]:
    """A set of alphabets in the official layout, with as many characters as `sizes` says."""
    content = picture()
    return {
        f"{folder}/Alphabet{alphabet:02}/character{character:02}/{alphabet:04}_{drawer:02}.png": content
        for alphabet, size in enumerate(sizes)
        for character in range(1, size + 1)
        for drawer in range(1, 21)
    }


@pytest.fixture(scope="module")
def evaluation() -> dict[str, bytes]:
    return drawn("images_evaluation", [33] * 19 + [32])


@pytest.fixture(scope="module")
def runs() -> dict[str, bytes]:
    """Runs in the official layout; query k of run r asks for character (3k + r) mod 20."""
    files = {}
    for run in range(1, 21):
        lines = [
            f"run{run:02}/test/item{item:02}.png run{run:02}/training/class{(3 * item + run) % 20 + 1:02}.png"
            for item in range(1, 21)
        ]
        files[f"run{run:02}/class_labels.txt"] = "\n".join(lines).encode()
        for number in range(1, 21):
            files[f"run{run:02}/training/class{number:02}.png"] = picture(number)
            files[f"run{run:02}/test/item{number:02}.png"] = picture(number + run)
    return files


@needs_background
def test_the_background_set_loads_whole() -> None:
    calls: list[tuple[int, int]] = []
    background = load_data(
        "omniglot", DRAWN, data_dir=OMNIGLOT, progress=lambda done, total: calls.append((done, total))
    )
    assert background.name == "omniglot-background"
    assert background.images.shape == (19280, 48, 48, 1)
    assert (len(background.identities), len(background.group_names)) == (964, 30)
    assert np.bincount(background.labels).tolist() == [20] * 964
    assert background.drawers is not None
    assert background.drawers.reshape(964, 20).tolist() == [list(range(1, 21))] * 964
    alphabet_of = np.array(background.group_names)[background.groups].tolist()
    assert [background.identities[label].split("/")[0] for label in background.labels] == alphabet_of
    assert "Greek/character24" in background.identities
    assert np.ptp(background.images, axis=(1, 2, 3)).min() > 64
    assert len(calls) > 50
    assert calls[-1] == (19280, 19280)
    with zipfile.ZipFile(OMNIGLOT / "images_background.zip") as archive:
        name = next(n for n in archive.namelist() if re.search(r"/Greek/character05/\d+_07\.png", n))
        content = archive.read(name)
    drawing = (background.labels == background.identities.index("Greek/character05")) & (background.drawers == 7)
    np.testing.assert_array_equal(background.images[drawing], load_image(content, DRAWN)[None])


@needs_runs
def test_the_runs_give_the_published_error_of_the_modified_hausdorff_distance() -> None:
    # "demo_classification.py ... average error 38.8%", one-shot-classification/README of brendenlake/omniglot
    runs = omniglot.load_lake_runs(default_input("omniglot", size=105, framing="whole"), OMNIGLOT)
    assert [run.name for run in runs] == [f"run{number:02}" for number in range(1, 21)]
    errors = np.array([hausdorff_error(run) for run in runs])
    assert errors.mean() == pytest.approx(0.3875)


def hausdorff_error(run: omniglot.OneShotRun) -> float:
    """Dubuisson & Jain (1994), as the official demo applies it: ink's points around their mean."""
    support, queries = ([KDTree(points_of(image)) for image in images] for images in (run.support, run.queries))
    nearest = [
        np.argmin([max(one.query(other.data)[0].mean(), other.query(one.data)[0].mean()) for other in support])
        for one in queries
    ]
    return float(np.mean(nearest != run.answers))


def points_of(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    points = np.argwhere(image[..., 0] == 0).astype(np.float64)
    centred: NDArray[np.float64] = points - points.mean(0)
    return centred


@needs_runs
def test_the_pinned_digest_is_that_of_the_official_runs() -> None:
    content = (OMNIGLOT / "all_runs.zip").read_bytes()
    assert len(content) == omniglot.LAKE_RUNS.bytes
    assert hashlib.sha256(content).hexdigest() == omniglot.LAKE_RUNS.sha256


@needs_runs
def test_answers_follow_the_label_file() -> None:
    first = omniglot.load_lake_runs(DRAWN, OMNIGLOT)[0]
    # "run01/test/item01.png run01/training/class08.png", and so on
    assert first.answers.tolist()[:3] == [7, 8, 1]
    assert first.answers.dtype == np.int64
    with zipfile.ZipFile(OMNIGLOT / "all_runs.zip") as archive:
        query, support = (archive.read(f"run01/{name}.png") for name in ("test/item02", "training/class09"))
    np.testing.assert_array_equal(first.queries[1], load_image(query, DRAWN))
    np.testing.assert_array_equal(first.support[8], load_image(support, DRAWN))


def test_runs_load_alike_from_the_zip_and_from_its_unpacked_folder(tmp_path: Path, runs: dict[str, bytes]) -> None:
    with zipfile.ZipFile(pack(tmp_path / "zip/all_runs.zip", runs)) as archive:
        archive.extractall(tmp_path / "folder/all_runs")
    zipped, unpacked = (omniglot.load_lake_runs(SMALL, tmp_path / name) for name in ("zip", "folder"))
    assert len(zipped) == len(unpacked) == 20
    for run, (one, other) in enumerate(zip(zipped, unpacked, strict=True), start=1):
        assert one.answers.tolist() == other.answers.tolist() == [(3 * item + run) % 20 for item in range(1, 21)]
        np.testing.assert_array_equal(one.support, other.support)
        np.testing.assert_array_equal(one.queries, other.queries)
        np.testing.assert_array_equal(one.queries[0], load_image(picture(1 + run), SMALL))


def test_the_evaluation_set_loads_whole_from_its_zip_and_from_a_folder(tmp_path, evaluation):
    junk = {"__MACOSX/images_evaluation/Alphabet00/character01/._0000_01.png": b"", "images_evaluation/.DS_Store": b""}
    with zipfile.ZipFile(pack(tmp_path / "zip/images_evaluation.zip", evaluation | junk)) as archive:
        archive.extractall(tmp_path / "folder")
    for name in ("zip", "folder"):
        loaded = load_data("omniglot", SMALL, data_dir=tmp_path / name, subset="evaluation")
        assert loaded.name == "omniglot-evaluation"
        assert (len(loaded.images), len(loaded.identities), len(loaded.group_names)) == (13180, 659, 20)
        assert omniglot.has_evaluation(tmp_path / name)


def without(files: dict[str, bytes], pattern: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not re.search(pattern, name)}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("Alphabet07/", "19 alphabets, expected 20"),
        ("Alphabet07/character03/", "658 characters, expected 659"),
        ("Alphabet07/character03/.*_20", "Alphabet07/character03 has 19 drawings, expected 20"),
        (".", "0 alphabets, expected 20"),
    ],
)
def test_a_set_that_is_not_whole_is_refused_with_what_is_missing(tmp_path, evaluation, pattern, words):
    pack(tmp_path / "images_evaluation.zip", without(evaluation, pattern))
    with raises(DataError, match=words, reason="incomplete") as caught:
        omniglot.load_evaluation(SMALL, tmp_path)
    assert "images_evaluation.zip" in str(caught.value)


def test_a_set_that_has_more_than_it_should_is_refused(tmp_path: Path, evaluation: dict[str, bytes]) -> None:
    front = "images_evaluation/Alphabet07/character03"
    pack(tmp_path / "more/images_evaluation.zip", evaluation | {f"{front}/9999_21.png": picture()})
    with pytest.raises(DataError, match="has 21 drawings, expected 20"):
        omniglot.load_evaluation(SMALL, tmp_path / "more")
    other = without(evaluation, "Alphabet07/character03/.*_20") | {f"{front}/9999_21.png": picture()}
    pack(tmp_path / "other/images_evaluation.zip", other)
    with pytest.raises(DataError, match="Alphabet07/character03 has no drawing by drawer 20"):
        omniglot.load_evaluation(SMALL, tmp_path / "other")


def test_a_drawing_that_is_no_image_is_named(tmp_path: Path, evaluation: dict[str, bytes]) -> None:
    name = "images_evaluation/Alphabet00/character01/0000_01.png"
    pack(tmp_path / "images_evaluation.zip", evaluation | {name: b"hello"})
    with raises(DataError, match=f"{name}: ", reason="not_an_image"):
        omniglot.load_evaluation(SMALL, tmp_path)


def test_a_drawing_of_absurd_size_is_refused(tmp_path: Path, evaluation: dict[str, bytes]) -> None:
    content = encoded(Image.new("1", (20_000, 20_000)))
    name = "images_evaluation/Alphabet00/character01/0000_01.png"
    pack(tmp_path / "images_evaluation.zip", evaluation | {name: content})
    with raises(DataError, match=f"{name}: ", reason="image_too_large"):
        omniglot.load_evaluation(SMALL, tmp_path)


@needs_background
@pytest.mark.parametrize("kept", [0, 100, 4_000_000, -1])
def test_a_truncated_archive_is_refused_in_one_line(tmp_path: Path, kept: int) -> None:
    (tmp_path / "images_background.zip").write_bytes((OMNIGLOT / "images_background.zip").read_bytes()[:kept])
    with raises(DataError, match="is no complete zip file", reason="bad_archive") as caught:
        omniglot.load_background(SMALL, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("run07/", "run07 is missing, expected 20 runs"),
        ("run07/class_labels", "run07/class_labels.txt is missing"),
        ("run07/test/item03", "run07/test/item03.png is missing"),
        ("run20/training/class20", "run20/training/class20.png is missing"),
    ],
)
def test_runs_that_are_not_whole_are_refused(tmp_path: Path, runs: dict[str, bytes], pattern: str, words: str) -> None:
    pack(tmp_path / "all_runs.zip", without(runs, pattern))
    with raises(DataError, match=words, reason="incomplete"):
        omniglot.load_lake_runs(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"item03.png ", b"item04.png "),
        (b"class15.png", b"class14.png"),
        (b"class15.png", b"class21.png"),
        (b"class15.png", b"class15.png run05/training/class16.png"),
        (b"run05/test/item03.png", b""),
        (b"\n", b"\nrun05/test/item01.png run05/training/class01.png\n"),
        (b"run05", b"\xff\xfe"),
    ],
)
def test_labels_that_pair_wrongly_are_refused(tmp_path: Path, runs: dict[str, bytes], old: bytes, new: bytes) -> None:
    name = "run05/class_labels.txt"
    assert old in runs[name]
    pack(tmp_path / "all_runs.zip", runs | {name: runs[name].replace(old, new, 1)})
    with raises(DataError, match=f"{name} does not pair 20 queries with 20 characters", reason="bad_labels"):
        omniglot.load_lake_runs(SMALL, tmp_path)


def test_the_data_folder_named_comes_before_the_environment_and_that_before_the_cache(
    tmp_path, empty_cache, monkeypatch
):
    places = [tmp_path / "named", tmp_path / "environment", empty_cache]
    for place in places:
        pack(place / "all_runs.zip", {})
    assert omniglot.find(omniglot.LAKE_RUNS).parent == empty_cache
    monkeypatch.setenv("EDGE_ONESHOT_DATA", "")
    assert omniglot.find(omniglot.LAKE_RUNS).parent == empty_cache
    monkeypatch.setenv("EDGE_ONESHOT_DATA", str(places[1]))
    assert omniglot.find(omniglot.LAKE_RUNS).parent == places[1]
    assert omniglot.find(omniglot.LAKE_RUNS, places[0]).parent == places[0]


@pytest.mark.parametrize("option", ["--data-dir", "EDGE_ONESHOT_DATA"])
def test_a_chosen_folder_without_the_archive_is_refused_and_not_written_to(tmp_path, empty_cache, monkeypatch, option):
    (tmp_path / "data").mkdir()
    chosen = tmp_path / "data" if option == "--data-dir" else None
    if chosen is None:
        monkeypatch.setenv("EDGE_ONESHOT_DATA", str(tmp_path / "data"))
    words = (
        f"data: no images_background.zip and no folder images_background; .* leave out {option} and it is downloaded"
    )
    with raises(DataError, match=words, reason="not_found"):
        omniglot.load_background(SMALL, chosen)
    assert not omniglot.has_evaluation(chosen)
    assert list((tmp_path / "data").iterdir()) == []
    assert not empty_cache.exists()


def test_a_chosen_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such data folder"):
        omniglot.load_lake_runs(SMALL, tmp_path / "nowhere")


@needs_runs
def test_each_archive_is_needed_only_by_what_uses_it(tmp_path: Path) -> None:
    (tmp_path / "all_runs.zip").symlink_to(OMNIGLOT / "all_runs.zip")
    assert len(omniglot.load_lake_runs(SMALL, tmp_path)) == 20


def test_without_a_chosen_folder_the_archive_is_downloaded_to_the_cache(empty_cache, monkeypatch):
    fetched: list[tuple[Remote, Path]] = []

    def fetch(remote: Remote, target: Path) -> Path:
        fetched.append((remote, target))
        return target

    monkeypatch.setattr(omniglot, "download", fetch)
    for remote in (omniglot.BACKGROUND, omniglot.EVALUATION, omniglot.LAKE_RUNS):
        assert omniglot.find(remote) == empty_cache / remote.name
    assert [target.name for _, target in fetched] == ["images_background.zip", "images_evaluation.zip", "all_runs.zip"]
    assert not omniglot.has_evaluation()


def test_looking_for_the_evaluation_set_downloads_nothing(empty_cache, monkeypatch, evaluation):
    monkeypatch.setattr(omniglot, "download", lambda *_: pytest.fail("downloads"))
    assert not omniglot.has_evaluation()
    pack(empty_cache / "images_evaluation.zip", evaluation)
    assert omniglot.has_evaluation()
