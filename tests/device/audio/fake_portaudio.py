"""A module in the place of sounddevice, whose library PortAudio is not on every machine that tests."""

import threading
import types

import numpy as np

RATE = 16000
STEP = 33  # of 32,768: about a thousandth


class PortAudioError(Exception):
    pass


class FakeSoundDevice(types.ModuleType):
    """Gives one `STEP` more with each block, whenever a test allows it.

    Attributes:
        rates: The sample rates that the device allows.
        fault: What opening and reading raise; None: they work.
        opened: How many streams are open.
    """

    PortAudioError = PortAudioError

    def __init__(self):
        super().__init__("sounddevice")
        self.rates, self.default_rate = {RATE}, 48000
        self.fault = None
        self.opened, self.openings, self.enumerations = 0, 0, 0
        self.wanted = None
        self.blocks = threading.Semaphore(0)

    def check_input_settings(self, samplerate, **wanted):
        self.wanted = wanted
        if samplerate not in self.rates:
            raise PortAudioError("Invalid sample rate")

    def query_devices(self, _device, kind):
        assert kind == "input"
        return {"default_samplerate": float(self.default_rate)}

    def InputStream(self, **wanted):  # noqa: N802 (as the package calls it)
        if self.fault is not None:
            raise self.fault
        return _Stream(self, wanted["samplerate"])

    def _terminate(self):
        self.enumerations += 1

    def _initialize(self):
        pass

    def give(self, blocks=1):
        self.blocks.release(blocks)


class _Stream:
    def __init__(self, device, rate):
        self._device, self.rate = device, rate
        self._count = 0

    def start(self):
        self._device.opened += 1
        self._device.openings += 1

    def read(self, size):
        self._device.blocks.acquire()
        if self._device.fault is not None:
            raise self._device.fault
        self._count += 1
        return np.full((size, 1), self._count * STEP, np.int16), False

    def close(self):
        self._device.opened -= 1
