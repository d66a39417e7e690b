"""What moves a lock: a relay at a GPIO, a signed request, or an MQTT message.

A driver opens what it needs when it is first called, and again after a failure, so that a lock that is not there yet
is a fault that passes.

The webhook's body is ``{"action": "unlock" or "lock", "seconds": …, "at": …, "nonce": …}``, signed as
`edge_oneshot_device.door.signing` says. A receiver checks the signature, refuses what is older than 30 seconds and a
nonce that it has had, and locks by itself after ``seconds``: the request that locks may be lost.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from edge_oneshot_device.door.configuration import (
    DoorConfig,
    MqttLockSection,
    MqttSection,
    RelaySection,
    WebhookLockSection,
)
from edge_oneshot_device.door.gpio import open_output
from edge_oneshot_device.door.mqtt_client import new_client
from edge_oneshot_device.door.signing import post, read_secret, require_address
from edge_oneshot_device.errors import MachineError

REQUEST_SECONDS: Final = 3.0
"""Seconds without progress after which a request or a message has failed."""


class LockDriver(Protocol):
    """What moves a lock. Both functions raise where they cannot tell that the lock obeyed.

    Attributes:
        waits: Whether a call may wait for something, and so needs a thread of its own.
    """

    waits: bool

    def unlock(self, seconds: float) -> None:
        """Open the lock, for at most so many seconds; the caller locks."""

    def lock(self) -> None:
        """Lock."""


class NoLock:
    """Nothing opens."""

    waits = False

    def unlock(self, seconds: float) -> None:
        """Nothing."""

    def lock(self) -> None:
        """Nothing."""


class Relay:
    """A relay at a GPIO.

    What a GPIO does when its process is killed is up to the kernel, which takes the line back: it becomes an input, or
    keeps its level (on a Raspberry Pi by pinctrl_bcm2835.persist_gpio_outputs). So each start locks first, and the
    service locks once more after it has ended (ExecStopPost).

    Args:
        section: GPIO and level.
    """

    waits = False

    def __init__(self, section: RelaySection) -> None:
        self._section = section
        self._device: Any = None

    def unlock(self, seconds: float) -> None:  # noqa: ARG002 (as of `LockDriver`)
        """Energize; errors as of `lock`."""
        self._drive(lambda device: device.on())

    def lock(self) -> None:
        """Release.

        Raises:
            MachineError: Reason ``extra_missing``.
            Exception: Whatever gpiozero and the kernel say.
        """
        self._drive(lambda device: device.off())

    def _drive(self, act: Callable[[Any], None]) -> None:
        if self._device is None:
            self._device = open_output(self._section.pin, active_high=self._section.active_high)
        try:
            act(self._device)
        except Exception:
            device, self._device = self._device, None
            device.close()
            raise


class WebhookLock:
    """A lock behind a signed request.

    Args:
        section: Address and secret.
    """

    waits = True

    def __init__(self, section: WebhookLockSection) -> None:
        self._section = section

    def unlock(self, seconds: float) -> None:
        """Ask to open; errors as of `lock`."""
        self._post("unlock", seconds)

    def lock(self) -> None:
        """Ask to lock.

        Raises:
            InputError: Reason ``bad_url``.
            IntegrityError: Reason ``secret_missing``, ``secret_exposed`` or ``secret_short``.
            MachineError: Reason ``request_failed``.
        """
        self._post("lock", 0.0)

    def _post(self, action: str, seconds: float) -> None:
        require_address(self._section.url)
        body = {
            "action": action,
            "seconds": round(seconds, 3),
            "at": round(time.time(), 3),
            "nonce": secrets.token_hex(16),
        }
        secret = read_secret(self._section.secret_file)
        post(self._section.url, msgspec.json.encode(body), secret, REQUEST_SECONDS)


class MqttLock:
    """A lock behind a broker.

    The broker is left the message that locks as last will, and publishes it when this process dies. A message that
    opens expires at the broker, so that a lock that was away does not open when it is back.

    Args:
        section: Topic and messages.
        broker: The broker.
    """

    waits = True

    def __init__(self, section: MqttLockSection, broker: MqttSection) -> None:
        self._section, self._broker = section, broker
        self._client: Any = None

    def unlock(self, seconds: float) -> None:
        """Publish the message that opens; errors as of `lock`."""
        self._publish(self._section.unlock, max(1, int(seconds)))

    def lock(self) -> None:
        """Publish the message that locks.

        Raises:
            MachineError: Reason ``lock_failed``: the broker did not take it; or ``extra_missing``.
            OSError: The broker cannot be reached.
        """
        self._publish(self._section.lock, None)

    def _publish(self, message: str, expires: int | None) -> None:
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        client = self._connected()
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if expires is not None:
            properties.MessageExpiryInterval = expires
        try:
            sent = client.publish(self._section.topic, message, qos=1, properties=properties)
            sent.wait_for_publish(REQUEST_SECONDS)
            if not sent.is_published():
                raise MachineError("the broker did not take a message to the lock", reason="lock_failed")
        except Exception:
            # with it goes what it may still hold, which must not be sent later
            self._client = None
            client.loop_stop()
            raise

    def _connected(self) -> Any:
        if self._client is not None and self._client.is_connected():
            return self._client
        broker = self._broker
        client = new_client(broker, f"edge-oneshot-lock-{secrets.token_hex(6)}", REQUEST_SECONDS)
        client.will_set(self._section.topic, self._section.lock, qos=1)
        client.connect(broker.host, broker.port, keepalive=10)
        client.loop_start()
        deadline = time.monotonic() + REQUEST_SECONDS
        while not client.is_connected():
            if time.monotonic() > deadline:
                client.loop_stop()
                raise MachineError(f"the broker {broker.host} did not accept the connection", reason="lock_failed")
            time.sleep(0.02)
        self._client = client
        return client


def driver_of(config: DoorConfig) -> LockDriver:
    """The driver of a door's lock; nothing is opened yet."""
    lock = config.lock
    match lock.kind:
        case "none":
            return NoLock()
        case "gpio":
            return Relay(lock.relay)
        case "webhook":
            return WebhookLock(lock.webhook)
        case "mqtt":
            return MqttLock(lock.mqtt, config.mqtt)
