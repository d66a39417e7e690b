import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device import Recognizer, cli
from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.access import ALWAYS, parse_access
from edge_oneshot_device.installation import installer
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.matching.decision import scores
from tests.raising import raises
from tests.samples.pictures import png
from tests.samples.tiny import MakeBundle, People


@pytest.fixture
def open_recognizer(make_bundle: MakeBundle, tmp_path: Path) -> Any:
    """Installs a bundle made with the keywords and opens it."""

    def open_it(target_far: float | None = None, **made: Any) -> Recognizer:
        installer.install(make_bundle(**made), tmp_path / "state", InstallOptions(target_far=target_far))
        return Recognizer.open(tmp_path / "state", limits=None)

    return open_it


@pytest.fixture
def recognizer(open_recognizer: Any) -> Iterator[Recognizer]:
    with open_recognizer() as opened:
        yield opened


def templates_of(recognizer: Recognizer) -> dict[str, int]:
    return {person.person: person.templates for person in recognizer.people()}


# fits_another: a template of somebody else would let that person in


def test_an_image_of_another_person_among_ones_own_is_refused_and_named(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    with raises(InputError, match=r"image 3 of grace is nearer to ada than to", reason="fits_another"):
        recognizer.enrol("grace", *people["grace"][:2], people["ada"][1], people["grace"][2])
    assert templates_of(recognizer) == {"ada": 1}
    assert recognizer.identify(people["ada"][2]).person == "ada"


def test_an_image_of_another_person_is_not_added(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    recognizer.enrol("grace", people["grace"][0])
    for wrong in ([people["ada"][1]], [people["grace"][1], people["ada"][1]]):
        with raises(InputError, match=f"image {len(wrong)} of grace", reason="fits_another"):
            recognizer.enrol("grace", *wrong, add=True)
    assert templates_of(recognizer) == {"ada": 1, "grace": 1}
    assert recognizer.enrol("grace", people["grace"][1], add=True).templates == 2
    assert recognizer.enrol("ada", people["ada"][1], people["ada"][2], add=True).templates == 3


def test_what_was_enrolled_before_does_not_count_when_it_is_replaced(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    recognizer.enrol("grace", people["grace"][0])
    # wrongly enrolled as alan, then put right: the former image is no measure
    recognizer.enrol("alan", people["grace"][1], even_if_alike=True)
    replaced = recognizer.enrol("alan", *people["alan"][:2], replace=True)
    assert (replaced.templates, replaced.resembles) == (2, None)
    with raises(InputError, match="image 2 of alan is nearer to ada", reason="fits_another"):
        recognizer.enrol("alan", people["alan"][2], people["ada"][1], replace=True)
    assert recognizer.identify(people["alan"][3]).person == "alan"


def test_an_image_that_fits_a_person_and_another_alike_is_not_refused(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    enrolment = recognizer.enrol("twin", people["ada"][0], people["ada"][0], even_if_alike=True)
    assert enrolment.templates == 2
    assert enrolment.resembles is not None
    assert enrolment.resembles.person == "ada"


# resembles: the same person under two names


def test_a_person_who_is_enrolled_under_another_name_is_refused_unless_told(recognizer, make_bundle, people):
    assert recognizer.enrol("ada", people["ada"][0]).resembles is None
    assert recognizer.enrol("grace", people["grace"][0]).resembles is None
    with raises(
        InputError, match="image 1 of countess would be taken for ada, who is enrolled", reason="already_known"
    ) as refused:
        recognizer.enrol("countess", people["ada"][1])
    assert "--even-if-alike" in str(refused.value)
    assert templates_of(recognizer) == {"ada": 1, "grace": 1}
    enrolment = recognizer.enrol("countess", people["ada"][1], even_if_alike=True)
    assert enrolment.resembles is not None
    assert enrolment.resembles.person == "ada"
    encoder = Encoder.open(Bundle.open(make_bundle()), "int8")
    first, second = (encoder.embed_image(image) for image in people["ada"][:2])
    assert enrolment.resembles.score == pytest.approx(scores(first, second[None], "cosine")[0], abs=1e-6)
    assert templates_of(recognizer) == {"ada": 1, "countess": 1, "grace": 1}


def test_the_most_alike_of_several_is_told_and_never_oneself(recognizer: Recognizer, people: People) -> None:
    recognizer.enrol("ada", people["ada"][0])
    recognizer.enrol("grace", people["grace"][0])
    both = recognizer.enrol("countess", people["ada"][0], even_if_alike=True)
    assert both.resembles is not None
    assert (both.resembles.person, both.resembles.score) == ("ada", pytest.approx(1.0))
    assert recognizer.enrol("grace", people["grace"][1], add=True).resembles is None
    assert recognizer.enrol("grace", people["grace"][1], replace=True).resembles is None


def test_nobody_resembles_where_nobody_else_is_enrolled_or_the_bundle_is_uncalibrated(open_recognizer, people):
    with open_recognizer(calibrated=False) as recognizer:
        assert recognizer.enrol("ada", *people["ada"][:3]).resembles is None
        assert recognizer.enrol("countess", people["ada"][3]).resembles is None
        with pytest.raises(InputError) as refused:
            recognizer.enrol("grace", people["grace"][0], people["grace"][1], people["ada"][1])
        assert refused.value.reason == "fits_another"  # which takes no threshold


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", ["best", "mean"])
def test_poison_is_refused_whatever_the_metric_and_the_rule(open_recognizer, people, metric, rule):
    with open_recognizer(target_far=0.05, metric=metric, rule=rule) as recognizer:
        recognizer.enrol("ada", *people["ada"][:3])
        recognizer.enrol("grace", *people["grace"][:3])
        with raises(InputError, reason="fits_another"):
            recognizer.enrol("grace", people["ada"][3], add=True)
        assert recognizer.enrol("alan", people["alan"][0]).resembles is None
        twin = recognizer.enrol("twin", people["ada"][4], even_if_alike=True)
        assert twin.resembles is not None
        assert twin.resembles.person == "ada"


def test_an_image_that_is_refused_is_named_with_its_file(recognizer, people, tmp_path, capsys):
    recognizer.enrol("ada", people["ada"][0])
    files = []
    for number, image in enumerate((people["grace"][0], people["grace"][1], people["ada"][1])):
        files.append(tmp_path / f"{number}.png")
        files[-1].write_bytes(image)
    with raises(InputError, match=r"/2\.png, image 3 of grace, is nearer to ada", reason="fits_another"):
        recognizer.enrol("grace", *files)
    command = ["enrol", "countess", str(files[2]), "--state", str(tmp_path / "state")]
    assert cli.main(command) == 2
    assert "/2.png, image 1 of countess, would be taken for ada" in capsys.readouterr().err
    assert cli.main([*command, "--even-if-alike"]) == 0
    assert "resembles ada" in capsys.readouterr().out
    assert cli.main(["enrol", "--folder", str(tmp_path), *command[3:], "--even-if-alike"]) == 2


def test_somebody_who_is_alike_by_a_loose_target_alone_is_enrolled_with_a_hint(open_recognizer, people):
    def blurred(share: float) -> Any:
        first, other = (np.asarray(Image.open(io.BytesIO(people[name][0])), np.float64) for name in ("ada", "grace"))
        return png((share * first + (1 - share) * other).astype(np.uint8))

    with open_recognizer(target_far=0.4) as recognizer:
        recognizer.enrol("ada", people["ada"][0])
        encoder = recognizer.encoder
        first = encoder.embed_image(people["ada"][0])
        # a score between the threshold in use and that for 1 %
        image = next(
            i for share in np.linspace(0.3, 0.9, 60) if 0.3 < encoder.embed_image(i := blurred(share)) @ first < 0.7
        )
        enrolment = recognizer.enrol("grace", image)
        assert enrolment.resembles is not None
        assert enrolment.resembles.person == "ada"


# access


def test_access_is_said_on_enrolment_kept_by_add_and_replace_and_changed_where_one_is_named(recognizer, people):
    until = parse_access(None, "2030-12-31T18:00Z", "mon-fri 07:00-19:00")
    recognizer.enrol("ada", people["ada"][0], access=until)
    recognizer.enrol("ada", people["ada"][1], add=True)
    recognizer.enrol("ada", people["ada"][2], replace=True)
    (ada,) = recognizer.people()
    assert (ada.valid_from, ada.valid_until, ada.hours) == (None, "2030-12-31T18:00:00Z", "mon-fri 07:00-19:00")
    recognizer.enrol("ada", people["ada"][3], add=True, access=parse_access("2026-01-01T00:00Z", None, None))
    (ada,) = recognizer.people()
    assert (ada.valid_from, ada.valid_until) == ("2026-01-01T00:00:00Z", "2030-12-31T18:00:00Z")
    assert ada.hours == "mon-fri 07:00-19:00"
    recognizer.enrol("ada", people["ada"][4], add=True, access=ALWAYS)
    (ada,) = recognizer.people()
    assert (ada.valid_from, ada.valid_until, ada.hours) == (None, None, None)
    recognizer.enrol("ada", people["ada"][5], replace=True, access=until)
    recognizer.forget("ada")
    recognizer.enrol("ada", people["ada"][0])
    (ada,) = recognizer.people()
    assert (ada.valid_from, ada.valid_until, ada.hours) == (None, None, None)


def test_the_command_changes_what_is_named_and_needs_always_to_take_limits_away(recognizer, people, tmp_path, capsys):
    recognizer.enrol("ada", people["ada"][0])

    def access(*options: str, code: int = 0) -> Any:
        assert cli.main(["access", "ada", *options, "--state", str(tmp_path / "state"), "--json"]) == code
        printed = capsys.readouterr()
        told = json.loads(printed.err if code else printed.out)
        return told if code else (told["valid_from"], told["valid_until"], told["hours"])

    hours = "mon-fri 07:00-19:00"
    assert access("--hours", "mon-fri  07:00-19:00") == (None, None, hours)
    assert access("--valid-until", "2030-12-31T00:00Z") == (None, "2030-12-31T00:00:00Z", hours)
    for wrong in ([], ["--always", "--hours", hours]):
        assert access(*wrong, code=2)["reason"] == "wrong_use"
    assert "name both" in access("--valid-from", "2031-01-01T00:00Z", code=2)["error"]
    (ada,) = recognizer.people()
    assert (ada.valid_until, ada.hours) == ("2030-12-31T00:00:00Z", hours)
    assert access("--always") == (None, None, None)
