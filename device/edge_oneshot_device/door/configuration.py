"""The configuration of a door: one TOML file, whose sections and keys are declared here and nowhere else.

A key's type, default, bounds and help stand in its field; `door init` writes them as comments, and `make schema` makes
docs/reference/door.md of them.
"""

from typing import Annotated, Literal

import msgspec

from edge_oneshot_device.options import option

GpioPin = Annotated[int, option("a GPIO, by its BCM number", ge=0, le=63)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all sections."""


class CameraSection(Section, frozen=True):
    """Where the frames come from."""

    source: Annotated[
        str, option("picamera, a device such as /dev/video0 or its number, an rtsp:// address, or a video file")
    ] = "/dev/video0"
    width: Annotated[int, option("wanted width of a frame in pixels", ge=160, le=4096)] = 1280
    height: Annotated[int, option("wanted height of a frame in pixels", ge=120, le=4096)] = 720
    frames_per_second: Annotated[float, option("frames that are looked at, at most", ge=1, le=60)] = 15.0
    rotation: Annotated[
        Literal[0, 90, 180, 270], option("how far a frame is turned clockwise before it is used, in degrees")
    ] = 0
    mirrored: Annotated[bool, option("whether the camera mirrors its frames; they are mirrored back")] = False
    region: Annotated[
        tuple[float, float, float, float],
        option("the part of the turned frame that is looked at: left, top, right, bottom as shares of its sides"),
    ] = (0.0, 0.0, 1.0, 1.0)
    lost_after: Annotated[float, option("seconds without a frame after which the camera is lost", ge=0.5, le=60)] = 3.0


class ApproachSection(Section, frozen=True):
    """How the frames of one face become one decision."""

    frames: Annotated[int, option("usable frames that are joined to one probe, at most", ge=1, le=15)] = 5
    window: Annotated[float, option("seconds from the first usable frame to the decision, at most", ge=0.0, le=2.0)] = (
        0.4
    )
    patience: Annotated[
        float, option("seconds without a usable frame after which a face is refused with the reason", ge=1, le=30)
    ] = 4.0
    nearness: Annotated[
        int,
        option(
            "pixels between the eyes from which a face is at the door; who is farther away is not looked at",
            ge=20,
            le=400,
        ),
    ] = 40
    leaves_after: Annotated[float, option("seconds out of sight after which a face is gone", ge=0.2, le=10)] = 1.5
    several: Annotated[
        Literal["nearest", "refuse"], option("with several people in view: the nearest is looked at, or nobody")
    ] = "nearest"


class SecondFactorSection(Section, frozen=True):
    """What is asked of somebody whose face fits."""

    mode: Annotated[
        Literal["off", "challenge", "challenge_when_close", "pin", "word"],
        option(
            "off: the face alone opens, and so does a printed photo; challenge: everybody shows that they are no"
            " picture; challenge_when_close: only those whose score is near the threshold; pin: everybody gives their"
            " PIN; word: everybody says their word"
        ),
    ] = "challenge"
    close: Annotated[
        float, option("challenge_when_close: distance from the threshold within which a score is near", gt=0, le=2)
    ] = 0.1
    seconds: Annotated[float, option("time for the challenge, the PIN or the word", ge=5, le=120)] = 30.0
    prompt_command: Annotated[
        tuple[str, ...],
        option(
            "program and arguments that say a prompt aloud, and end when it is said; {prompt} stands for its text,"
            " {code} for its code"
        ),
    ] = ()


class PinSection(Section, frozen=True):
    """The keypad. PINs are set with `edge-oneshot-device pin`."""

    keypad: Annotated[str, option("the keypad's input device, such as /dev/input/event0; empty: there is none")] = ""
    alone: Annotated[bool, option("whether number and PIN open without a face")] = False


class WordSection(Section, frozen=True):
    """The microphone, and the words that are said into it. They are enrolled in a state folder of their own."""

    state: Annotated[str, option("state folder of the words, made by init with a bundle for speech")] = ""
    key: Annotated[str, option("file of that gallery's key; empty: the same as of the faces")] = ""
    microphone: Annotated[
        str, option("default, the number of a sound device or a part of its name, or a WAV or FLAC file for trials")
    ] = "default"


class RelaySection(Section, frozen=True):
    """A relay at a GPIO."""

    pin: GpioPin = 17
    active_high: Annotated[bool, option("whether a high level opens the lock")] = True


class WebhookLockSection(Section, frozen=True):
    """A lock that is opened by a signed request."""

    url: Annotated[str, option("an https:// address, or http:// in a network of your own")] = ""
    secret_file: Annotated[str, option("file with the secret of the HMAC-SHA256 signature, 32 bytes or more")] = ""


class MqttLockSection(Section, frozen=True):
    """A lock that is opened by a message; it has to lock again by itself."""

    topic: Annotated[str, option("topic of the command")] = ""
    unlock: Annotated[str, option("message that opens")] = "UNLOCK"
    lock: Annotated[str, option("message that locks")] = "LOCK"


class LockSection(Section, frozen=True):
    """The lock."""

    kind: Annotated[
        Literal["none", "gpio", "webhook", "mqtt"], option("what opens; none: decisions are made, and nothing opens")
    ] = "none"
    pulse: Annotated[float, option("seconds that the lock stays open", ge=0.2, le=60)] = 3.0
    hold_at_most: Annotated[float, option("seconds that a held door stays open, at most", ge=1, le=86400)] = 14400.0
    relay: RelaySection = RelaySection()
    webhook: WebhookLockSection = WebhookLockSection()
    mqtt: MqttLockSection = MqttLockSection()


class InputsSection(Section, frozen=True):
    """Contacts and buttons at GPIOs; None: there is none."""

    door_sensor: Annotated[GpioPin | None, option("contact that is closed to ground while the door is closed")] = None
    held_open_after: Annotated[float, option("seconds after which an open door raises an alarm", ge=5, le=3600)] = 30.0
    exit_button: Annotated[GpioPin | None, option("button to ground that opens from inside")] = None
    emergency_release: Annotated[GpioPin | None, option("contact to ground that holds the door open while closed")] = (
        None
    )
    buzzer: Annotated[GpioPin | None, option("buzzer: one tone accepted, two refused, three asked")] = None
    green: Annotated[GpioPin | None, option("LED that is lit while the lock is open")] = None
    red: Annotated[GpioPin | None, option("LED that is lit while a refusal is shown, and blinks while faulty")] = None


class MqttSection(Section, frozen=True):
    """A broker that is told what happens, with discovery for Home Assistant."""

    host: Annotated[str, option("name or address of the broker; empty: there is none")] = ""
    port: Annotated[int, option("its port", ge=1, le=65535)] = 8883
    tls: Annotated[bool, option("whether the connection is encrypted; without, anybody in the network reads along")] = (
        True
    )
    ca_file: Annotated[str, option("certificates that are trusted; empty: the system's")] = ""
    user: Annotated[str, option("user name; empty: none")] = ""
    password_file: Annotated[str, option("file with the password, readable by the door alone")] = ""
    topic: Annotated[str, option("where topics begin")] = "edge-oneshot/door"
    discovery: Annotated[str, option("where Home Assistant looks for devices; empty: no discovery")] = "homeassistant"
    commands: Annotated[
        tuple[Literal["unlock", "hold", "release"], ...], option("commands that are obeyed; none unless named")
    ] = ()


class WebhookSection(Section, frozen=True):
    """An address that is told what happens, by signed requests."""

    url: Annotated[str, option("an https:// address, or http:// in a network of your own; empty: there is none")] = ""
    secret_file: Annotated[str, option("file with the secret of the HMAC-SHA256 signature, 32 bytes or more")] = ""


class MetricsSection(Section, frozen=True):
    """Prometheus metrics."""

    port: Annotated[int, option("port on localhost; 0: there are none", ge=0, le=65535)] = 0


class DoorConfig(Section, frozen=True):
    """A door."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64), option("the door's name, in events")] = "Door"
    show_refusal: Annotated[float, option("seconds that a refusal is shown", ge=1, le=60)] = 3.0
    camera: CameraSection = CameraSection()
    approach: ApproachSection = ApproachSection()
    second_factor: SecondFactorSection = SecondFactorSection()
    pin: PinSection = PinSection()
    word: WordSection = WordSection()
    lock: LockSection = LockSection()
    inputs: InputsSection = InputsSection()
    mqtt: MqttSection = MqttSection()
    webhook: WebhookSection = WebhookSection()
    metrics: MetricsSection = MetricsSection()
