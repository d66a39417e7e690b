"""An utterance from the microphone, in place of a file."""

from collections.abc import Callable

from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError


def record(encoder: Encoder, microphone: str, ready: Callable[[], None]) -> bytes:
    """Record what somebody says next, for an encoder of speech.

    Args:
        encoder: Says the sample rate.
        microphone: See `edge_oneshot_device.audio.microphone.record_utterance`.
        ready: Is called when the microphone is open.

    Returns:
        The recording as a WAV file.

    Raises:
        InputError: ``wrong_use``: the encoder takes images; or as `record_utterance`.
        MachineError: As `record_utterance`.
    """
    from edge_oneshot_device.audio.microphone import record_utterance

    audio = encoder.input.audio
    if audio is None:
        raise InputError("the bundle in use takes images: leave --microphone out, give a file", reason="wrong_use")
    return record_utterance(microphone, audio.sample_rate, ready=ready)
