import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.gallery.access import ALWAYS, Access, changed, parse_access, refuse_access
from tests.raising import raises

InZone = Callable[[str], None]
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
WEEK = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAYS = {name: MONDAY + timedelta(days=day) for day, name in enumerate(WEEK)}


@pytest.fixture
def in_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[InZone]:
    """Sets the device's own time zone."""

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


def at(moment: str) -> datetime:
    """Such as ``fri 23:59``, in UTC."""
    day, clock = moment.split()
    hours, minutes, *seconds = map(int, clock.split(":"))
    return DAYS[day] + timedelta(hours=hours, minutes=minutes, seconds=sum(seconds))


def let_in(hours: str, moment: str) -> bool:
    return refuse_access(parse_access(None, None, hours), at(moment)) is None


# hours of the week


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (
            "mon-fri 07:00-19:00, sat 08:00-12:00",
            ["mon 07:00", "fri 18:59:59", "wed 12:00", "sat 08:00", "sat 11:59:59"],
            ["mon 06:59:59", "fri 19:00", "sat 12:00", "sun 10:00", "sat 07:59", "mon 00:00"],
        ),
        ("tue 09:00-10:00", ["tue 09:00", "tue 09:59:59"], ["tue 10:00", "mon 09:30", "wed 09:30"]),
        # into the next day, and over the end of the week
        ("fri 22:00-06:00", ["fri 22:00", "sat 05:59:59", "sat 00:00"], ["fri 21:59", "sat 06:00", "fri 05:00"]),
        ("sun 22:00-06:00", ["sun 23:59:59", "mon 00:00", "mon 05:59"], ["mon 06:00", "sun 21:59", "sun 03:00"]),
        ("sat-sun 22:00-02:00", ["sun 01:00", "sat 22:00", "mon 01:59:59"], ["sat 01:00", "mon 02:00", "mon 22:00"]),
        # days over the end of the week
        ("fri-mon 08:00-09:00", ["fri 08:00", "sat 08:59", "sun 08:30", "mon 08:30"], ["tue 08:30", "thu 08:30"]),
        ("wed-tue 08:00-09:00", [f"{day} 08:30" for day in DAYS], [f"{day} 09:00" for day in DAYS]),
        # whole days
        ("sat 00:00-24:00", ["sat 00:00", "sat 23:59:59"], ["fri 23:59:59", "sun 00:00"]),
        ("sat 00:00-00:00", ["sat 00:00", "sat 23:59:59"], ["fri 23:59:59", "sun 00:00"]),
        ("mon 12:00-24:00", ["mon 12:00", "mon 23:59:59"], ["mon 11:59", "tue 00:00"]),
        ("mon 12:00-12:00", ["mon 12:00", "tue 11:59:59"], ["mon 11:59", "tue 12:00"]),
        ("mon-sun 00:00-24:00", [f"{day} 00:00" for day in DAYS], []),
        # windows that touch or overlap
        ("mon 08:00-12:00, mon 12:00-16:00", ["mon 11:59:59", "mon 12:00"], ["mon 07:59", "mon 16:00"]),
        ("mon 08:00-14:00, mon 12:00-16:00", ["mon 13:00", "mon 15:00"], ["mon 16:00"]),
        ("MON-Fri 07:00-19:00 ,  sat 08:00-12:00", ["mon 07:00", "sat 08:00"], ["sun 08:00"]),
        ("mon-fri  07:00-19:00", ["mon 07:00"], ["sat 08:00"]),
        (" mon - fri 07:00 - 19:00,sat\t08:00-12:00\n", ["mon 07:00", "sat 08:00"], ["sun 08:00"]),
        ("mon\u2013fri\u00a007:00\u201319:00", ["fri 18:59"], ["sat 08:00"]),
    ],
)
def test_a_person_comes_in_at_their_hours_and_at_no_others(in_zone, hours, inside, outside):
    in_zone("UTC")
    assert [moment for moment in inside if not let_in(hours, moment)] == []
    assert [moment for moment in outside if let_in(hours, moment)] == []


def test_hours_are_those_of_the_devices_own_zone_whatever_the_season(in_zone: InZone) -> None:
    in_zone("Europe/Berlin")
    nine_to_five = parse_access(None, None, "mon-sun 09:00-17:00")
    for utc, inside in (
        ("2026-01-05T07:59:59", False),
        ("2026-01-05T08:00:00", True),
        ("2026-01-05T15:59:59", True),
        ("2026-01-05T16:00:00", False),
        ("2026-07-06T06:59:59", False),
        ("2026-07-06T07:00:00", True),
        ("2026-07-06T14:59:59", True),
        ("2026-07-06T15:00:00", False),
    ):
        now = datetime.fromisoformat(utc).replace(tzinfo=UTC)
        assert (refuse_access(nine_to_five, now) is None) == inside, utc
        # whatever zone the moment is told in
        assert (refuse_access(nine_to_five, now.astimezone(timezone(timedelta(hours=-9)))) is None) == inside


def test_the_hour_that_the_clock_skips_or_repeats_is_taken_as_the_clock_on_the_wall_shows_it(in_zone: InZone) -> None:
    in_zone("Europe/Berlin")
    night = parse_access(None, None, "sun 02:00-03:00")
    # 2026-03-29, 02:00 becomes 03:00: nobody sees that hour
    spring = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert [refuse_access(night, spring + timedelta(minutes=minutes)) for minutes in range(0, 120, 10)] == [
        "outside_hours"
    ] * 12
    # 2026-10-25, 03:00 becomes 02:00: it lasts for two
    autumn = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    assert refuse_access(night, autumn - timedelta(seconds=1)) == "outside_hours"
    assert [refuse_access(night, autumn + timedelta(minutes=minutes)) for minutes in range(0, 120, 10)] == [None] * 12
    assert refuse_access(night, autumn + timedelta(hours=2)) == "outside_hours"


@pytest.mark.parametrize(
    "hours",
    ["", " ", "always", "mon", "mon 07:00", "mon 7:00-19:00", "mon 07:00-19:60", "mon 07:00-24:01",
     "mon 24:00-08:00", "mon 25:00-26:00", "moo 07:00-19:00", "mon-moo 07:00-19:00", "mon-tue-wed 07:00-19:00",
     "mon 07:00-19:00,", "mon 07:00-19:00; tue 07:00-19:00", ",mon 07:00-19:00", "m on 07:00-19:00", "mon 07 :00-19:00",
     "mon 07:00-19:00\nsat 08:00-12:00", "mon \u0967\u0967:00-19:00", "mon 07:00-19:00 sat 08:00-12:00"],
)  # fmt: skip
def test_what_are_no_hours_is_refused(hours: str) -> None:
    with raises(
        InputError, match="write such as 'mon-fri 07:00-19:00, sat 08:00-12:00'", reason="bad_hours"
    ) as refused:
        parse_access(None, None, hours)
    assert "\n" not in str(refused.value)


def test_hours_are_kept_in_one_spelling_however_they_were_typed() -> None:
    kept = parse_access(None, None, "  Mon -  FRI  07:00 - 19:00 ,sat 08:00-12:00 ").hours
    assert kept == "mon-fri 07:00-19:00, sat 08:00-12:00"


# dates


def test_a_date_counts_from_its_beginning_and_to_its_end_in_the_devices_own_zone(in_zone: InZone) -> None:
    in_zone("Europe/Berlin")
    access = parse_access("2026-01-05", "2026-07-06", None)
    assert access == Access("2026-01-04T23:00:00Z", "2026-07-06T22:00:00Z", None)
    for utc, reason in (
        ("2026-01-04T22:59:59", "not_yet_valid"),
        ("2026-01-04T23:00:00", None),
        ("2026-07-06T21:59:59", None),
        ("2026-07-06T22:00:00", "expired"),
    ):
        assert refuse_access(access, datetime.fromisoformat(utc).replace(tzinfo=UTC)) == reason


def test_a_single_day_is_a_day(in_zone: InZone) -> None:
    in_zone("UTC")
    access = parse_access("2026-01-05", "2026-01-05", None)
    assert access == Access("2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z", None)


def test_a_time_counts_to_the_second_and_may_have_a_zone_of_its_own(in_zone: InZone) -> None:
    in_zone("America/New_York")
    assert parse_access("2026-01-05T18:00", "2026-01-05 18:00:01", None) == Access(
        "2026-01-05T23:00:00Z", "2026-01-05T23:00:01Z", None
    )
    assert parse_access("2026-01-05T18:00Z", "2026-01-05T18:00-02:00", None) == Access(
        "2026-01-05T18:00:00Z", "2026-01-05T20:00:00Z", None
    )


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "2026-02-29", "05.01.2026", "2026-01-05T25:00", "2026",
                                  "9999-12-31", "0001-01-01", "2026-01-05T", "2026-01-05x18:00"])  # fmt: skip
def test_what_is_no_date_is_refused(in_zone: InZone, text: str) -> None:
    in_zone("Asia/Tokyo" if text == "0001-01-01" else "UTC")
    for wrong in ((text, None), (None, text)):
        if wrong in (("9999-12-31", None), (None, "0001-01-01")):
            continue  # the beginning of the one and the end of the other can be told
        with raises(InputError, match="write such as 2026-12-31 or 2026-12-31T18:00", reason="bad_date"):
            parse_access(*wrong, None)


@pytest.mark.parametrize("until", ["2026-01-04", "2026-01-05T12:00", "2026-01-05T11:59"])
def test_an_end_before_the_beginning_is_refused(until: str) -> None:
    with raises(InputError, match="swap them", reason="bad_date"):
        parse_access("2026-01-05T12:00", until, None)


# together


def test_who_may_always_come_in_may_always_come_in() -> None:
    assert parse_access(None, None, None) == ALWAYS
    for now in (datetime(1, 1, 2, tzinfo=UTC), datetime.now(UTC), datetime(9999, 12, 30, tzinfo=UTC)):
        assert refuse_access(ALWAYS, now) is None


def test_dates_come_before_hours(in_zone: InZone) -> None:
    in_zone("UTC")
    access = parse_access("2026-01-05", "2026-01-06", "mon-tue 09:00-17:00")
    for moment, reason in (
        (DAYS["mon"] - timedelta(hours=12), "not_yet_valid"),
        (at("mon 08:59"), "outside_hours"),
        (at("tue 16:59"), None),
        (at("tue 17:00"), "outside_hours"),
        (at("wed 12:00"), "expired"),
    ):
        assert refuse_access(access, moment) == reason


# a change of some of it


def test_only_what_is_named_changes_and_always_takes_all_of_it_away() -> None:
    before = parse_access("2026-01-05T00:00Z", "2026-06-30T00:00Z", "mon-fri 09:00-17:00")
    later = parse_access(None, "2027-06-30T00:00Z", None)
    assert changed(before, later) == Access("2026-01-05T00:00:00Z", "2027-06-30T00:00:00Z", "mon-fri 09:00-17:00")
    assert changed(ALWAYS, later) == later
    assert changed(before, parse_access(None, None, "sat 09:00-12:00")).valid_until == "2026-06-30T00:00:00Z"
    assert changed(before, ALWAYS) == ALWAYS


@pytest.mark.parametrize("named", [("2026-07-01T00:00Z", None), (None, "2026-01-04T00:00Z")])
def test_an_end_that_is_kept_before_a_beginning_that_is_named_is_refused_with_both(named: tuple[str, str]) -> None:
    before = parse_access("2026-01-05T00:00Z", "2026-06-30T00:00Z", None)
    with raises(InputError, match="of which only one was named: name both", reason="bad_date"):
        changed(before, parse_access(*named, None))


# the device's time zone


UNKNOWN = [
    *("Europe/Berlinn", ":Mars/Olympus", "Europe", "CEST", "CET-1CEST,", "CET-1CEST,nonsense", "+02:00", "../etc"),
    *("CET-99", "CET24", "CET-23:30CEST"),  # a day and more from UTC
]


@pytest.mark.parametrize("zone", UNKNOWN)
def test_hours_in_a_zone_that_is_not_known_are_refused_and_let_nobody_in(in_zone: InZone, zone: str) -> None:
    in_zone("UTC")
    all_day = parse_access(None, None, "mon-sun 00:00-24:00")
    assert refuse_access(all_day, MONDAY) is None
    in_zone(zone)
    assert refuse_access(all_day, MONDAY) == "unknown_zone"
    assert refuse_access(ALWAYS, MONDAY) is None
    for named in (("2026-01-05", None, None), (None, "2026-01-05", None), (None, None, "mon 07:00-19:00")):
        with raises(MachineError, match="correct TZ, or install the system's package tzdata", reason="unknown_zone"):
            parse_access(*named)
    assert parse_access(None, None, None) == ALWAYS


@pytest.mark.parametrize(
    ("zone", "hour"),
    [("", 12), ("UTC", 12), ("GMT", 12), ("UTC0", 12), ("CET-1", 13), ("CET-1CEST,M3.5.0,M10.5.0/3", 13),
     ("<+0330>-3:30", 15), ("EST5EDT", 7), (":Europe/Berlin", 13), ("/usr/share/zoneinfo/Asia/Tokyo", 21)],
)  # fmt: skip
def test_zones_with_and_without_a_file_are_known(in_zone: InZone, zone: str, hour: int) -> None:
    in_zone(zone)
    assert refuse_access(parse_access(None, None, f"mon {hour:02}:00-{hour + 1:02}:00"), at("mon 12:00")) is None


def test_a_zone_that_is_changed_while_the_process_runs_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for zone, reason in (("UTC", None), ("Asia/Tokyo", "outside_hours"), ("UTC", None)):
            monkeypatch.setenv("TZ", zone)  # and nobody calls time.tzset
            assert refuse_access(Access(hours="mon 12:00-13:00"), at("mon 12:00")) == reason
            assert parse_access("2026-01-05T12:00", None, None).valid_from == (
                "2026-01-05T12:00:00Z" if zone == "UTC" else "2026-01-05T03:00:00Z"
            )
    finally:
        monkeypatch.undo()
        time.tzset()
