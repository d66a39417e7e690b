"""The packages of the extras, and what to run where one is missing: an extra is imported where it is used."""

from typing import Final

from edge_oneshot_device.errors import MachineError

# pip's names and not this project's: it is published nowhere, and whoever took its name there would be installed
INSTALL: Final = {
    "audio": 'pip install "sounddevice>=0.5,<1" "soundfile>=0.13,<1" "soxr>=0.5,<2"',
    "camera": 'pip install "opencv-python-headless>=4.11,<6"',
    "gpio": """pip install "gpiozero>=2,<3" "lgpio>=0.2.2,<1; python_version < '3.13'" """
    """"adafruit-lgpio>=0.2.2,<1; python_version >= '3.13' and platform_machine != 'x86_64'\"""",
    "metrics": 'pip install "prometheus-client>=0.22,<1"',
    "mqtt": 'pip install "paho-mqtt>=2.1,<3"',
    "pin": 'pip install "argon2-cffi>=25.1,<26"',
}
"""What to run to install each extra."""


def extra_missing(extra: str) -> MachineError:
    """The error where a package of an extra is not installed.

    Args:
        extra: Its name.
    """
    return MachineError(f"a package is missing that this needs: {INSTALL[extra]}", reason="extra_missing")
