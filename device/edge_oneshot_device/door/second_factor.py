"""What is asked of somebody whose face fits, before the lock opens: the challenge, the PIN, or a spoken word.

Each factor is fed what it needs and says how it ended. Whatever ends otherwise than in a pass is a refusal.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from edge_oneshot_device.audio.sound_file import to_wav
from edge_oneshot_device.door.keypad import CLEAR, DONE
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.limits import Refusal
from edge_oneshot_device.liveness.watcher import PROMPTS
from edge_oneshot_device.recognition.recognizer import Recognizer

if TYPE_CHECKING:
    from edge_oneshot_device.door.camera import Frame
    from edge_oneshot_device.door.hearing import Utterance

_MOST_DIGITS: Final = 32
_PROMPTS: Final = {"enter_pin": "enter your PIN, then #", "say_word": "say your word"}
_NO_WORD: Final = ("no_speech", "no_content")  # a bang, a cough: the person has still to say the word


class Outcome(msgspec.Struct, frozen=True):
    """How a second factor ended.

    Attributes:
        passed: Whether the person may come in.
        reason: ``passed``, or why not.
    """

    passed: bool
    reason: str


class SecondFactor(Protocol):
    """A second factor that is asked of a person."""

    person: str
    prompt: str
    """What the person is to do now, a code."""
    overdue: str
    """Why they are refused when the time is over, a code."""

    def see(self, frame: "Frame") -> Outcome | None:
        """Take a frame; the outcome ends it.

        Raises:
            MachineError: The runtime or the disk failed.
        """

    def press(self, keys: Sequence[str]) -> Outcome | None:
        """Take keys of the keypad; the outcome ends it.

        Raises:
            MachineError: The disk failed.
        """

    def hear(self, utterance: "Utterance") -> Outcome | None:
        """Take what was said; the outcome ends it.

        Raises:
            IntegrityError: The gallery of the words is damaged.
            MachineError: The runtime or the disk failed.
        """


class ChallengeFactor:
    """The person shows that they are no picture; then the face that was challenged is compared once more.

    Args:
        recognizer: Draws the challenge, which counts as a rejection until it is passed.
        person: Whom the face fitted.
    """

    overdue = "timeout"

    def __init__(self, recognizer: Recognizer, person: str) -> None:
        self.person, self.prompt = person, "look"
        self._recognizer = recognizer
        self._watcher = recognizer.challenge()

    def see(self, frame: "Frame") -> Outcome | None:
        """Follow the face through the challenge."""
        if isinstance(self._watcher, Refusal):
            return Outcome(False, self._watcher.reason)
        progress = self._watcher.feed(frame.image, frame.seconds)
        self.prompt, result = progress.ask, progress.result
        if result is None:
            return None
        if result.embedding is None:
            return Outcome(False, result.reason)
        decision = self._recognizer.identify_probe(result.embedding, frames=1)
        if decision.accepted and decision.person != self.person:
            return Outcome(False, "another_face")
        return Outcome(decision.accepted, "passed" if decision.accepted else decision.reason)

    def press(self, keys: Sequence[str]) -> Outcome | None:
        """Keys say nothing here."""

    def hear(self, utterance: "Utterance") -> Outcome | None:
        """Sound says nothing here."""


class PinFactor:
    """The person gives their PIN. One wrong PIN is a refusal; its limits are those of 1:1.

    Args:
        recognizer: Its gallery knows the PINs.
        person: Whom the face fitted.
    """

    overdue = "timeout"

    def __init__(self, recognizer: Recognizer, person: str) -> None:
        self.person, self.prompt = person, "enter_pin"
        self._gallery = recognizer.gallery
        self._entry = PinEntry()

    def see(self, frame: "Frame") -> Outcome | None:
        """Frames say nothing here."""

    def press(self, keys: Sequence[str]) -> Outcome | None:
        """Collect the PIN and compare it."""
        from edge_oneshot_device.door.pins import check_pin

        pin = self._entry.press(keys)
        if pin is None:
            return None
        try:
            verdict = check_pin(self._gallery, self.person, pin)
        except InputError as error:  # forgotten meanwhile
            return Outcome(False, error.reason)
        return Outcome(verdict.accepted, "passed" if verdict.accepted else verdict.reason)

    def hear(self, utterance: "Utterance") -> Outcome | None:
        """Sound says nothing here."""


class WordFactor:
    """The person says their word. One wrong word is a refusal; its limits are those of 1:1 in the gallery of the words.

    Args:
        words: Recognizes spoken words; who is enrolled there has the name that they have at the door.
        person: Whom the face fitted.
    """

    overdue = "no_word"

    def __init__(self, words: Recognizer, person: str) -> None:
        self.person, self.prompt = person, "say_word"
        self._words = words

    def see(self, frame: "Frame") -> Outcome | None:
        """Frames say nothing here."""

    def press(self, keys: Sequence[str]) -> Outcome | None:
        """Keys say nothing here."""

    def hear(self, utterance: "Utterance") -> Outcome | None:
        """Compare what was said with the person's word."""
        audio = self._words.encoder.input.audio
        assert audio is not None
        try:
            decision = self._words.verify(self.person, to_wav(utterance.samples, audio.sample_rate))
        except InputError as error:
            return None if error.reason in _NO_WORD else Outcome(False, error.reason)
        if decision.accepted:
            return Outcome(True, "passed")
        return Outcome(False, "wrong_word" if decision.reason == "below_threshold" else decision.reason)


class PinEntry:
    """What has been typed at the keypad and is not ended yet."""

    def __init__(self) -> None:
        self._digits = ""

    def press(self, keys: Sequence[str]) -> str | None:
        """Take keys; returns the digits once the entry ends, else None. Of more than 32 digits the first 32 count."""
        for place, key in enumerate(keys):
            if key == DONE:
                entered, self._digits = self._digits, "".join(keys[place + 1 :])[:_MOST_DIGITS]
                return entered
            self._digits = "" if key == CLEAR else (self._digits + key)[:_MOST_DIGITS]
        return None


def prompt_text(code: str) -> str:
    """What the person at the door is asked to do.

    Args:
        code: A code of `PROMPTS`, ``enter_pin`` or ``say_word``.
    """
    return _PROMPTS.get(code) or PROMPTS[code]
