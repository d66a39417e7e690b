"""The audio part of the manifest's input section: how a recording becomes the model's input."""

from typing import Annotated

import msgspec

from edge_oneshot_device.bundle.fields import Section


class AudioSection(Section, frozen=True, kw_only=True):
    """How a recording becomes a log-mel spectrogram, see `edge_oneshot_device.audio.spectrogram`.

    The input's height is the count of mel bands, its width the count of frames. A frame is `window` samples under a
    periodic Hann window; frames begin `hop` samples apart, so that ``window + (width - 1) * hop`` samples are seen.

    Attributes:
        sample_rate: Samples a second, of one channel.
        window: Samples of a frame.
        hop: Samples from the beginning of one frame to that of the next.
        low_hz: Lower end of the lowest band.
        high_hz: Upper end of the highest band; at most half of the sample rate.
        range_db: Decibels below the loudest cell of the spectrogram that become 0; the loudest cell becomes 255.
    """

    sample_rate: Annotated[int, msgspec.Meta(ge=8000, le=48000)]
    window: Annotated[int, msgspec.Meta(ge=64, le=4096)]
    hop: Annotated[int, msgspec.Meta(ge=16, le=4096)]
    low_hz: Annotated[float, msgspec.Meta(ge=0.0, le=24000.0)]
    high_hz: Annotated[float, msgspec.Meta(gt=0.0, le=24000.0)]
    range_db: Annotated[float, msgspec.Meta(ge=10.0, le=120.0)]

    def samples(self, frames: int) -> int:
        """Samples that so many frames cover."""
        return self.window + (frames - 1) * self.hop
