"""The options of init: the same bounds and defaults as the parts of the device that they set."""

import pytest

from edge_oneshot_device.encoding.options import MAX_THREADS
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.limits import MOST_REJECTIONS, Limits
from edge_oneshot_device.installation.options import InstallOptions
from tests.raising import raises


def test_the_default_rate_of_rejections_is_that_of_the_gallery():
    assert InstallOptions().rejections_per_minute == Limits().rejections_per_minute


@pytest.mark.parametrize(
    ("name", "largest", "reason"),
    [("rejections_per_minute", MOST_REJECTIONS, "bad_limit"), ("threads", MAX_THREADS, "wrong_threads")],
)
def test_bounds_are_those_of_the_part_that_is_set(name, largest, reason):
    assert getattr(InstallOptions(**{name: largest}), name) == largest
    for wrong in (0, -1, largest + 1):
        with raises(InputError, match=rf"^--{name.replace('_', '-')} {wrong}: must be at least 1 ", reason=reason):
            InstallOptions(**{name: wrong})


def test_only_one_thing_can_become_of_the_people_of_another_encoder():
    with raises(InputError, match=r"^--take-over: not allowed with --empty$", reason="wrong_use"):
        InstallOptions(empty=True, take_over=True)
