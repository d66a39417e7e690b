"""Print docs/reference/door.md, made of what the code declares: `python -m tools.door_reference`."""

import json

import msgspec

from edge_oneshot_device.door.config_file import Key, all_keys
from edge_oneshot_device.door.configuration import DoorConfig
from edge_oneshot_device.door.loop import state_limits
from edge_oneshot_device.door.states import SIGNALS, STATES, TRANSITIONS

_TEXT = """\
# The door: states and configuration

This page says in which states a door is, what leads from one to another, and what each key of its configuration means.
It is for people who run a door or change one. [guides/door.md](../guides/door.md) is the way to a working door.
`make schema` makes this page from the code.

## States
```mermaid
stateDiagram-v2
    [*] --> idle
{arrows}
```

| state | what it means | ends by itself after |
|---|---|---|
{states}

| signal | what happened |
|---|---|
{signals}

A signal that has no arrow in a state changes nothing there. `failed` and `opened` lead from nearly everywhere, so that
a fault locks and who is inside gets out; a door that is open is not locked early by a lost camera or a full disk, only
by a fault of the lock's guard ([lock.md](lock.md)).

## How a face becomes a decision
- **An approach** is one face from its appearance to its leaving. Its usable frames, those that pass the
  [quality gate](faces.md#quality-gate), become one probe, the mean of their embeddings; it is decided once, by the 1:N
  threshold and margin of single images, which accept fewer strangers then, not more
  ([experiments/faces.md](../experiments/faces.md#probes-of-several-frames)).
- The nearest face is looked at, and another one once it is nearer by a quarter. Somebody behind is not looked at as
  long as that face is in sight. With `approach.several = "refuse"` nobody is, until one person is there alone.
- Frames that do not show the same person are not joined: another face begins another approach.
- A face that was refused, or let in, gets no further attempt until it has left for `approach.leaves_after` seconds,
  wherever in the picture it is, whatever it shows between. A stranger who stays makes one attempt.
- What opens is recorded in the [audit trail](gallery.md#audit-trail) first. What cannot be recorded, because the disk
  is full, does not open; the exit button and the emergency release always do, and are recorded when there is room.
- Nobody is let in by what was seen before the camera or the program hung: no decision takes effect that is based on a
  frame older than 5 seconds, and an approach without a usable frame for longer than it takes to leave begins anew.
- Somebody who comes while the lock is open is decided at once where the face alone decides, else when it is locked.

## Camera
A thread reads the camera and keeps the newest frame; the others are dropped. V4L2 devices, RTSP and video files are
read by OpenCV, a Pi camera by picamera2. A frame has the camera's own time. A camera that cannot be opened, or that
gives no frame for `camera.lost_after` seconds, makes the door faulty; it is opened again after 1 second, then after
2, then every 3. A video file is played once, in real time. Messages name of an address its host alone,
because the rest may hold a password.

## Microphone
The microphone is open only while a word is asked for: at any other time nothing is recorded. It is opened for a moment
at the start of the program, and again after it was lost, to know whether it works; what is heard then is dropped. A
thread reads it, by PortAudio, and keeps at most five seconds that the loop has not taken yet.

- **What counts**: what is said after the prompt. The microphone is closed while `prompt_command` speaks, for 0.2
  seconds after that, and during the three tones of the buzzer. Another 0.2 seconds are heard to know the background.
- **An utterance** begins where the level between 200 and 4,000 Hz is 8 dB above the background of the last three
  seconds, and is over after 0.4 seconds of quiet. Sounds below 0.15 seconds are bangs, and those above 2 seconds are no
  word: they count as nothing. 0.4 seconds before and after an utterance are compared as well.
- A microphone that cannot be opened, or gives no sound for 3 seconds, makes the door faulty. It is opened again after 1
  second, then after 2 and 4, then every 5. One that is lost while nobody is asked is noticed when somebody is.
- A microphone that does not give the bundle's sample rate is resampled.
- A sound file in its place is heard from its beginning, in real time, whenever a word is asked for.

## Second factor
| `second_factor.mode` | who is let in |
|---|---|
| `off` | whoever looks like somebody enrolled: a printed photo does |
| `challenge` | whose face fits, and who then passes the [challenge](liveness.md) with the same face |
| `challenge_when_close` | like `off` where the score is `close` above the threshold or more, else like `challenge` |
| `pin` | whose face fits, and who then types their PIN |
| `word` | whose face fits, and who then says their word ([guides/speech.md](../guides/speech.md)) |

The default is `challenge`, because a photo of somebody enrolled is easy to get. What a screen shows passes it: only a
second factor that is known or carried tells that apart, so give a door that has to withstand more `pin`. A word is
known too, but whoever stands by hears it, and a recording of it passes. A challenge, PIN or word that fails is a
refusal, and counts as a failed attempt: the challenge as a rejection of the door, PIN and word as one of the person.

A word is decided 1:1 by what is installed in the folder `word.state`, with the thresholds, the limits, the hours and
the audit trail of that gallery. People have the same name there as at the door.

| reason | meaning |
|---|---|
| `passed` | it is the person's word |
| `wrong_word` | it is not; one wrong word is a refusal |
| `no_word` | nothing was said until the time was over |
| `not_enrolled` | no word of the person is enrolled |
| `delayed`, `disabled` | too many wrong words of this person: [limits](gallery.md#limits) |

## Configuration
One TOML file: `door init` writes it with every key as a comment, `door check` tries it. A key that is not listed here,
or a value that is not allowed, ends the command with a line that names the key and what is allowed.
{tables}"""


def page() -> str:
    """The page."""
    limits = state_limits(DoorConfig())
    named = {
        "approaching": "`approach.patience` + `approach.window` + 2 s",
        "challenged": "`second_factor.seconds`",
        "unlocked": "`lock.pulse`",
        "refused": "`show_refusal`",
        "held": "`lock.hold_at_most`",
    }
    assert set(named) == set(limits)
    return _TEXT.format(
        arrows="\n".join(f"    {before} --> {after}: {signal}" for (before, signal), after in TRANSITIONS.items()),
        states="\n".join(f"| `{state}` | {text} | {named.get(state, '')} |" for state, text in STATES.items()),
        signals="\n".join(f"| `{signal}` | {text} |" for signal, text in SIGNALS.items()),
        tables="".join(_tables()),
    )


def _tables() -> list[str]:
    sections: dict[str, list[Key]] = {}
    for key in all_keys():
        sections.setdefault(key.section, []).append(key)
    parts = []
    for name, keys in sections.items():
        heading = f"`[{name}]`" if name else "Keys at the top"
        head = ["| key | default | allowed | what it is |", "|---|---|---|---|"]
        rows = [f"| `{key.name}` | {_default(key)} | {key.allowed} | {key.help} |" for key in keys]
        parts.append("\n".join([f"\n### {heading}", *head, *rows, ""]))
    return parts


def _default(key: Key) -> str:
    return "none" if key.default is None else f"`{json.dumps(msgspec.to_builtins(key.default))}`"


if __name__ == "__main__":
    print(page(), end="")
