"""Prompts said aloud by a program of the user's."""

import sys

from edge_oneshot_device.door.prompter import Prompter
from edge_oneshot_device.door.second_factor import prompt_text
from edge_oneshot_device.errors import InputError
from tests.device.door.waiting import wait_until
from tests.raising import raises


def writes(path):
    """A program that adds its first argument to a file, and then goes on speaking."""
    script = "import sys, time; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n'); time.sleep(60)"
    return (sys.executable, "-c", script, str(path), "{code}: {prompt}")


def test_each_new_prompt_is_said_once_and_ends_the_one_before(tmp_path):
    path = tmp_path / "said"
    path.touch()
    with Prompter(writes(path)) as prompter:
        prompter.say("turn_left")
        wait_until(lambda: path.read_text().count("\n") == 1)
        first = prompter._running
        prompter.say("turn_left")
        assert prompter._running is first
        prompter.say("blink")
        assert first.poll() is not None
        wait_until(lambda: path.read_text().count("\n") == 2)
        last = prompter._running
    assert last.poll() is not None
    assert path.read_text().splitlines() == [f"{code}: {prompt_text(code)}" for code in ("turn_left", "blink")]


def test_when_nothing_is_asked_any_more_it_is_silent(tmp_path):
    with Prompter(writes(tmp_path / "said")) as prompter:
        prompter.say("blink")
        speaking = prompter._running
        prompter.say(None)
        assert speaking.poll() is not None
        assert prompter._running is None


def test_a_program_that_is_not_there_is_refused_at_the_start():
    with raises(InputError, reason="no_program", match="/nowhere/speak is no program here"):
        Prompter(("/nowhere/speak", "{prompt}"))


def test_without_a_program_nothing_is_said():
    with Prompter(()) as prompter:
        prompter.say("blink")
        assert prompter._running is None


def test_it_says_whether_it_is_speaking(tmp_path):
    with Prompter(writes(tmp_path / "said")) as prompter:
        assert not prompter.is_speaking
        prompter.say("say_word")
        assert prompter.is_speaking
        prompter._running.terminate()
        wait_until(lambda: not prompter.is_speaking)
