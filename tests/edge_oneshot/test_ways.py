from argparse import ArgumentTypeError

import pytest

from edge_oneshot.bundle_options import WaysRange, parse_ways


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5,20", (5, 20)), ("20", (20,)), ("2..20", WaysRange(2, 20)), ("2..all", WaysRange(2, None))],
)
def test_a_list_or_a_range_is_read(text, expected):
    assert parse_ways(text) == expected


@pytest.mark.parametrize("text", ["", "five", "5,", "1", "1..all", "20..5", "2,3..9", "2..many", ".."])
def test_what_is_neither_is_refused_in_one_line(text):
    with pytest.raises(ArgumentTypeError, match=r".") as caught:
        parse_ways(text)
    assert "\n" not in str(caught.value)
