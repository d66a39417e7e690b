"""The webhook that is told every event, by signed requests; see `edge_oneshot_device.door.signing`."""

from edge_oneshot_device.door.configuration import WebhookSection
from edge_oneshot_device.door.events import Event
from edge_oneshot_device.door.signing import post, read_secret, require_address
from edge_oneshot_device.door.waker import Waker

_PATIENCE = 10.0  # seconds


class WebhookReceiver:
    """A receiver of events behind an address, see `publisher.Receiver`.

    Args:
        section: Address and secret.

    Raises:
        InputError: Reason ``bad_url``.
        IntegrityError, MachineError: The secret cannot be read, see `signing.read_secret`.
    """

    name = "webhook"
    fault: str | None = None

    def __init__(self, section: WebhookSection) -> None:
        require_address(section.url)
        self._section = section
        self._secret = read_secret(section.secret_file)
        self._waker = Waker()

    def open(self) -> None:
        """Nothing: every request has a connection of its own."""

    def send(self, event: Event) -> None:
        """Send an event; raises what `signing.post` does."""
        post(self._section.url, event.encode(), self._secret, _PATIENCE)

    def rest(self, seconds: float) -> None:
        """Wait for `wake`, so many seconds at most."""
        self._waker.wait(seconds)

    def wake(self) -> None:
        """End `rest`."""
        self._waker.wake()

    def stop(self) -> None:
        """End `rest`; a request ends by itself."""
        self._waker.wake()

    def close(self) -> None:
        """Nothing."""
