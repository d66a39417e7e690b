"""A share of the campaign campaigns/liveness.py: people and attacks rendered of photos, with the real nets."""

import random
from importlib import util
from itertools import islice

import pytest
from PIL import Image

from edge_oneshot.faces import packages
from edge_oneshot_device.encoding.preprocessing import load_photo
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.liveness.challenge import Challenge
from edge_oneshot_device.liveness.parallax import ReferenceView, View
from edge_oneshot_device.liveness.watcher import FAILURES, PROMPTS, Watcher
from tests.campaigns import liveness as campaign
from tests.campaigns.rendering.acting import Pose
from tests.raising import raises
from tests.real_data import LFW, needs

LEAST_SCORE = campaign.LEAST_SCORE
KINDS = (
    *("moved", "tilted", "bent", "bending", "folded", "pleated", "pleated twice", "domed", "ridged", "beaked", "boxed"),
    *("zoomed", "cut-out eyes", "swapped", "other photos", "exchanged"),
)


@pytest.fixture(scope="module")
def encoder():
    files = (packages.SFACE.stored, packages.MESH, packages.ASTRONAUT)
    if any(util.find_spec(file.package) is None for file in files):
        pytest.skip("the extra faces is not installed")
    return campaign.open_encoder()


@pytest.fixture(scope="module")
def people(encoder):
    photos = {"astronaut": packages.ASTRONAUT, "hopper": packages.HOPPER}
    return [campaign.person_in(name, packages.read_package_file(file), encoder.faces) for name, file in photos.items()]


def numbers(*of):
    return random.Random("/".join(map(str, of)))


@pytest.mark.parametrize("seed", range(4))
def test_a_living_head_that_does_what_is_asked_passes(encoder, people, seed):
    found = campaign.attempt(encoder, people, "genuine", numbers("genuine", seed))
    assert (found["reason"], found["done"]) == ("passed", 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_passes_never(encoder, people, kind):
    assert set(campaign.ATTACKS) == set(KINDS)
    found = campaign.attempt(encoder, people, kind, numbers(kind))
    assert not found["passed"]
    assert found["reason"] in {*FAILURES, "not_begun"}


@needs(LFW)
def test_people_of_lfw_pass_and_their_pleated_photos_do_not(encoder):
    strangers = list(islice(campaign.lfw_people(LFW, 5, encoder.faces), 3))
    assert len({person.name for person in strangers}) == 3
    assert campaign.attempt(encoder, strangers, "genuine", numbers("lfw", 0))["passed"]
    assert not campaign.attempt(encoder, strangers, "pleated", numbers("lfw", 0))["passed"]


@pytest.fixture
def nearness(encoder, people):
    """How much more the front of a head, or of a photo, grew when it came from 60 cm to 30."""

    def measured(solid):
        scene = campaign.Scene(numbers("closer"))
        frames = [scene.frame(people[0], solid, Pose(z=z), 0.0) for z in (60.0, 30.0)]
        far, near = (View(frame, campaign.meshes(frame, encoder.faces)[0].points) for frame in frames)
        return ReferenceView(far).nearness(near)

    return measured


def test_perspective_shows_when_a_head_comes_closer_and_not_when_a_photo_does(nearness):
    assert nearness(solid=True) > 0.03
    assert abs(nearness(solid=False)) < 0.01


@pytest.fixture
def watch(encoder, people):
    """Feeds what an actor does; returns every progress until the end."""

    def run(challenge, act, least_score=LEAST_SCORE):
        chance = numbers("watch")
        scene, actor = campaign.Scene(chance), campaign.genuine(chance, people[:1])
        watcher, seconds, ask, seen = Watcher(encoder, challenge, least_score), 0.0, "look", []
        while seconds < 30.0 and not (seen and seen[-1].result):
            seconds += 0.125
            frame = act(scene, actor, ask, seconds)
            seen.append(watcher.feed(frame, seconds))
            ask = seen[-1].ask
        return seen

    return run


def live(scene, actor, ask, seconds):
    return scene.frame(actor.person(seconds), True, actor.pose(ask, seconds), seconds)


def test_what_is_asked_is_in_the_order_of_the_challenge_and_the_embedding_is_of_the_face(watch, encoder):
    seen = watch(Challenge(("turn_left", "come_closer", "blink"), (0.5, 0.5, 0.5)), live)
    asked = [ask for ask in dict.fromkeys(progress.ask for progress in seen) if ask not in {"look", "hold"}]
    assert asked == ["turn_left", "come_closer", "step_back", "blink"]
    assert {progress.ask for progress in seen} <= set(PROMPTS)
    result = seen[-1].result
    assert (result.passed, result.reason, result.action) == (True, "passed", None)
    photo = load_photo(packages.read_package_file(packages.ASTRONAUT), 1000)
    assert result.embedding @ encoder.embed(encoder.faces.chip(photo)) > 0.7


def test_an_action_of_the_other_side_fails(watch):
    def other_side(scene, actor, ask, seconds):
        return live(scene, actor, "turn_right" if ask == "turn_left" else ask, seconds)

    result = watch(Challenge(("turn_left",), (0.5,)), other_side)[-1].result
    assert (result.passed, result.reason, result.action) == (False, "wrong_action", "turn_left")


def test_an_action_before_it_is_asked_fails(watch):
    def early(scene, actor, ask, seconds):
        return live(scene, actor, "turn_left" if ask == "hold" else ask, seconds)

    result = watch(Challenge(("turn_left",), (3.0,)), early)[-1].result
    assert (result.passed, result.reason, result.action) == (False, "too_early", None)


def test_nothing_done_in_time_fails(watch):
    def idle(scene, actor, _ask, seconds):
        return live(scene, actor, "look", seconds)

    result = watch(Challenge(("turn_left",), (0.5,)), idle)[-1].result
    assert (result.passed, result.reason, result.action) == (False, "timed_out", "turn_left")


def test_whose_blink_is_not_seen_is_asked_for_the_action_that_was_left_out_instead(watch):
    def never_blinks(scene, actor, ask, seconds):
        actor.blinks = ()
        return live(scene, actor, "look" if ask == "blink" else ask, seconds)

    seen = watch(Challenge(("blink", "turn_left", "come_closer"), (0.5, 0.5, 0.5)), never_blinks)
    asked = [ask for ask in dict.fromkeys(progress.ask for progress in seen) if ask not in {"look", "hold"}]
    assert asked == ["blink", "turn_right", "turn_left", "come_closer", "step_back"]
    assert seen[-1].result.passed
    assert watch(Challenge(("blink",), (0.5,)), never_blinks)[-1].result.reason == "timed_out"


def test_a_face_that_is_gone_for_a_while_fails(watch):
    def gone(scene, actor, ask, seconds):
        return Image.new("RGB", (512, 384), "grey") if ask == "turn_left" else live(scene, actor, ask, seconds)

    result = watch(Challenge(("turn_left",), (0.5,)), gone)[-1].result
    assert (result.passed, result.reason, result.embedding) == (False, "face_lost", None)


def test_a_second_face_fails(watch):
    def joined(scene, actor, ask, seconds):
        frame = live(scene, actor, ask, seconds)
        if ask == "turn_left":
            both = Image.new("RGB", (1024, 384))
            both.paste(frame, (0, 0))
            both.paste(frame, (512, 0))
            return both
        return frame

    assert watch(Challenge(("turn_left",), (0.5,)), joined)[-1].result.reason == "several_faces"


def test_a_face_that_jumps_fails(watch):
    def jumps(scene, actor, ask, seconds):
        frame = live(scene, actor, ask, seconds)
        return frame if ask != "turn_left" else frame.transform(frame.size, Image.Transform.AFFINE, (1, 0, 90, 0, 1, 0))

    assert watch(Challenge(("turn_left",), (0.5,)), jumps)[-1].result.reason == "face_jumped"


def test_frames_come_in_their_order(encoder):
    watcher = Watcher(encoder, Challenge.draw(), LEAST_SCORE)
    watcher.feed(Image.new("RGB", (320, 240)), 1.0)
    with raises(InputError, match="give frames in order", reason="wrong_time"):
        watcher.feed(Image.new("RGB", (320, 240)), 1.0)
