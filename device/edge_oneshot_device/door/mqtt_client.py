"""The MQTT client of a door: for the broker that is told what happens, and for a lock at a broker."""

import ssl
from typing import TYPE_CHECKING

from edge_oneshot_device.door.configuration import MqttSection
from edge_oneshot_device.door.signing import read_secret
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.extras import extra_missing

if TYPE_CHECKING:
    from paho.mqtt.client import Client


def new_client(section: MqttSection, name: str, timeout: float) -> "Client":
    """A client of MQTT 5 for a broker, with its certificates and credentials, not connected.

    Args:
        section: The broker.
        name: The client's name; a broker ends the connection of another client of that name.
        timeout: Seconds for the connection.

    Raises:
        InputError: Reason ``bad_ca_file``.
        IntegrityError: The file with the password is refused, see `read_secret`.
        MachineError: It cannot be read; or ``extra_missing``.
    """
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    except ImportError as error:
        raise extra_missing("mqtt") from error
    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False)
    client.connect_timeout = timeout
    if section.tls:
        client.tls_set_context(_tls(section.ca_file))
    password = read_secret(section.password_file, 1).decode(errors="replace") if section.password_file else None
    if section.user or password is not None:
        client.username_pw_set(section.user or None, password)
    return client


def _tls(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # also what is no certificate
        raise InputError(f"mqtt.ca_file {ca_file} cannot be used: {error}", reason="bad_ca_file") from error
