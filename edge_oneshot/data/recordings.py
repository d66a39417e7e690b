"""The input of an encoder of speech, and pictures of recordings for it."""

from edge_oneshot_device.bundle.audio_section import AudioSection
from edge_oneshot_device.bundle.manifest import InputSection


def speech_input() -> InputSection:
    """How a recording becomes the input of an encoder of speech: 40 mel bands by 64 frames, 1.3 s."""
    return InputSection(
        height=40,
        width=64,
        colour="grey",
        resize="bilinear",
        mean=(127.5,),
        scale=(127.5,),
        value_range=(-1.0, 1.0),
        min_contrast=16,
        audio=AudioSection(sample_rate=16_000, window=512, hop=320, low_hz=60.0, high_hz=7_600.0, range_db=60.0),
    )
