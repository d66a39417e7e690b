"""A share of the campaign against whoever writes in the state folder; the whole is part of `make soak`."""

import json
import os
import random
import subprocess
import sys

import pytest

pytest.importorskip("rich", reason="the campaign shows its progress with rich")

from edge_oneshot_device import Recognizer
from edge_oneshot_device.errors import IntegrityError
from edge_oneshot_device.installation.installer import install
from tests import ROOT
from tests.campaigns import tampering
from tests.campaigns.intrusion.cases import KINDS
from tests.campaigns.intrusion.commands import BEGINNING
from tests.campaigns.intrusion.contents import journal_of
from tests.campaigns.intrusion.judge import Seen, judge
from tests.campaigns.intrusion.processes import Told
from tests.campaigns.intrusion.seeing import Attempt, Look
from tests.raising import raises

CASES = 60


def test_who_writes_in_the_state_folder_lets_nobody_in_and_loses_nobody(tmp_path):
    out = tmp_path / "counts.json"
    words = ["--cases", str(CASES), "--seed", "1", "--workers", "1", "--out", str(out)]
    code = tampering.main(words)
    counts = json.loads(out.read_bytes())
    assert [failure for part in counts["parts"].values() for failure in part["failures"]] == []
    assert (code, counts["failed"]) == (0, 0)
    assert counts["parts"].keys() | counts["skipped"].keys() == set(KINDS)
    assert ("links" in counts["skipped"]) == (os.geteuid() != 0)
    if not counts["skipped"]:
        assert counts["cases"] == CASES
    for part in counts["parts"].values():
        assert part["outcomes"].keys() - {"the attacker was refused"}  # not all of it comes to nothing


def test_a_journal_that_names_another_file_deletes_nothing(make_bundle, people, tmp_path):
    state, key, other = tmp_path / "state", tmp_path / "key", tmp_path / "other.txt"
    other.write_text("somebody else's")
    install(make_bundle(variants=("int8",), counts=(1,)), state, key=key)
    with Recognizer.open(state, key=key) as door:
        door.enrol("ada", people["ada"][0])
        gallery = door.gallery.path
        content = gallery.read_bytes()
        size = int.from_bytes(content[16:18], "big")
        numbers = random.Random(1)
        journal = gallery.with_name(f"{gallery.name}-journal")
        for victim in (key, other):
            written = (numbers, content[:size], 1, len(content) // size, size, victim)
            journal.write_bytes(journal_of(*written))
            for attempt in (lambda: door.identify(people["ada"][1]), lambda: Recognizer.open(state, key=key)):
                with raises(IntegrityError, reason="foreign_file"):
                    attempt()
            assert victim.exists()
        journal.unlink()
        assert door.identify(people["ada"][1]).person == "ada"


# what the campaign would notice


def decision(shown, **other):
    """What a door says that knows everybody."""
    person = {"stranger": None, "grace": None}.get(shown, shown)
    told = {"accepted": person is not None, "person": person, "reason": "match" if person else "below_threshold"}
    return told | {"retry_after": None} | other


@pytest.fixture
def judged():
    """Judges a look at a door where all is well but for what is changed.

    Keywords: `attempts` (what somebody is told: shown to decision, or an answer), `row` (of an acceptance), `kept`,
    `limit` (what the last of many strangers is told), `listed`, `check` and `against` (exit codes), and the fields of
    `Seen`.
    """

    def answer(said, code=0, reason=None):
        return Told({"code": code, "said": [said], "error": {"error": "", "reason": reason}})

    def attempt(shown, came, row, kept):
        value = came if isinstance(came, Told) else answer(came)
        accepted = value.value is not None and value.value["said"][0].get("accepted")
        own = {"act": "identify", "detail": {"accepted": True}} if row is True else row
        return Attempt(shown, None, value, own if accepted else None, kept)

    def judged(*, attempts=None, row=True, kept=True, limit="rate_limited", listed=("ada", "alan", "edsger"), check=0,
               against=0, **fields):  # fmt: skip
        came = {shown: decision(shown) for shown in ("ada", "alan", "stranger", "grace")} | (attempts or {})
        look = Look("fresh", BEGINNING)
        look.attempts = [attempt(shown, one, row, kept) for shown, one in came.items()]
        look.limit = [attempt("stranger", decision("stranger", reason=limit), row, kept)]
        look.listed = answer([{"person": name} for name in listed])
        look.check, look.against = answer({}, check), answer({}, against)
        return judge(Seen("sql", "an act", looks=[look], **fields))

    judged.answer = answer
    return judged


def test_a_door_where_all_is_well_is_told_as_such(judged):
    assert judged() == "all is well"


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        ({"attempts": {"stranger": decision("ada")}}, "lets somebody in: the fresh door, stranger as ada"),
        (
            {"attempts": {"grace": decision("grace", accepted=True, person="grace")}},
            "lets somebody in: the fresh door, grace as grace",
        ),
        ({"attempts": {"ada": decision("alan")}}, "lets somebody in: the fresh door, ada as alan"),
        ({"row": None}, "accepts without a row: the fresh door, ada as ada"),
        (
            {"row": {"act": "identify", "detail": {"accepted": False}}},
            "accepts without a row: the fresh door, ada as ada",
        ),
        ({"kept": False}, "accepts with a row that is in no file: the fresh door, ada as ada"),
        ({"attempts": {"ada": decision("stranger")}}, "loses and nothing tells: the fresh door, ada"),
        ({"listed": ("alan", "edsger")}, "loses and nothing tells: the fresh door, ada of the list"),
        ({"listed": ("ada", "alan", "edsger", "grace")}, "loses and nothing tells: the fresh door, grace (listed)"),
        ({"limit": "below_threshold"}, "no limit: the fresh door, 1:N, below_threshold"),
        (
            {"attempts": {"ada": decision("ada", accepted=False, reason="delayed", retry_after=864_000.0)}},
            "makes wait too long: the fresh door, 864000 s",
        ),
        ({"changed": ["canaries/secret.txt"]}, "touches what is not the program's: canaries/secret.txt"),
        ({"lost": ["oldest.backup"]}, "no key opens: oldest.backup"),
        ({"secret": True}, "tells somebody else's secret"),
    ],
)
def test_what_must_not_be_is_noticed(judged, seen, fault):
    verdict = judged(**seen)
    assert verdict.startswith("FAILED: ")
    assert fault in verdict


def test_a_bug_and_a_hang_are_noticed_and_a_clear_refusal_is_none(judged):
    bug = judged.answer({}, 4, "bug")
    assert judged(attempts={"ada": bug}).startswith("FAILED: gives no clear error: the fresh door: ")
    assert judged(attempts={"ada": Told(fault="hung")}).startswith("FAILED: gives no answer: the fresh door: hung")
    refused = {"ada": judged.answer({}, 3, "gallery_corrupt")}
    assert judged(attempts=refused) == "refused: gallery_corrupt"
    assert "out of order though nothing was altered" in judged(attempts=refused, harmless=True)


def test_a_loss_that_the_record_tells_is_the_attackers_right_to_delete(judged):
    assert judged(attempts={"ada": decision("stranger")}, check=3) == "a loss that audit --check tells"


def test_only_what_was_truly_there_before_is_a_known_limit(judged):
    back = {"grace": decision("grace", accepted=True, person="grace")}
    told = "known limit: what was there before, put back, told by audit --check"
    assert judged(attempts=back, before=True, check=3, against=3) == told
    assert judged(attempts=back, before=True, against=3).endswith("told against a head that was kept")
    assert judged(attempts=back, other=True).startswith("FAILED")
    assert judged(attempts={"stranger": decision("ada")}, before=True).startswith("FAILED")


SABOTAGE = """
import json, sys
from pathlib import Path
import msgspec
from edge_oneshot_device import Recognizer
from tests.campaigns.intrusion.commands import BEGINNING
from tests.campaigns.intrusion.ground import lay, prepare
from tests.campaigns.intrusion.judge import Seen, judge
from tests.campaigns.intrusion.keeping import lost
from tests.campaigns.intrusion.processes import once
from tests.campaigns.intrusion.seeing import Door, look

ground, place = Path(sys.argv[1]) / "ground", Path(sys.argv[1]) / "place"
key = place / "keys" / "key"

def verdict():
    lay(ground, place, None)
    door = Door(place, key, None)
    seen = Seen("nothing was done", looks=[look("fresh", door, place, key, None, BEGINNING, limits=True)])
    door.end()
    return judge(seen)

once(lambda: prepare(ground))
told = {"honest": verdict()}
identify, opened = Recognizer.identify, Recognizer.open.__func__
Recognizer.open = classmethod(lambda cls, state, *, key: opened(cls, state, key=key, limits=None))
told["without limits"] = verdict()
Recognizer.open = classmethod(opened)
Recognizer.identify = lambda self, image: msgspec.structs.replace(identify(self, image), accepted=True, person="ada")
told["lets everybody in"] = verdict()
lay(ground, place, None)
for path in key.parent.iterdir():
    path.unlink()
told["lost"] = lost(place, ground, BEGINNING)
print(json.dumps(told))
"""


def test_a_door_that_lets_everybody_in_and_a_key_that_is_gone_are_noticed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    command = [sys.executable, "-c", SABOTAGE, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["honest"] == "all is well"
    assert "no limit: the fresh door, 1:N" in told["without limits"]
    assert "lets somebody in: the fresh door, stranger as ada" in told["lets everybody in"]
    assert "lets somebody in: the fresh door, alan as ada" in told["lets everybody in"]
    assert "accepts without a row" in told["lets everybody in"]
    backups = ["oldest.backup", "early.backup", "now.backup"]
    assert told["lost"] == ["the state folder of before", "the other state folder", *backups]
