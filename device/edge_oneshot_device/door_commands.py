"""What the commands of the door do: `run` and `door`."""

import argparse
import os
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from edge_oneshot_device import console
from edge_oneshot_device.door.options import DoorOptions, RunOptions
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.options import options_from

if TYPE_CHECKING:
    from edge_oneshot_device.door.loop import Told


def run(arguments: argparse.Namespace) -> int:
    """Run a door until SIGTERM or Ctrl-C."""
    from edge_oneshot_device.door.config_file import read_config
    from edge_oneshot_device.door.running import run_door
    from edge_oneshot_device.presentation.door_results import door_line, door_line_text

    options = options_from(arguments, RunOptions)
    if options.show and arguments.json:
        raise InputError("--show draws a screen, --json prints lines: give one of them", reason="wrong_use")
    if options.demo:
        from edge_oneshot_device.door.demo import demo_command

        command = demo_command(as_json=arguments.json)
        os.execv(command[0], command)  # noqa: S606 (in its place, so that Ctrl-C reaches the one that draws)
    if options.config is None:
        raise InputError("run needs --config FILE, which door init writes; or --demo", reason="wrong_use")
    config = read_config(options.config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.show:
        from edge_oneshot_device.presentation.door_view import DoorScreen
        from edge_oneshot_device.presentation.door_watch import DoorWatch

        with DoorScreen() as screen:
            watch = DoorWatch(config.name, screen)
            run_door(config, stop, state=arguments.state, key=arguments.key, tell=watch.tell, show=watch.show)
        return 0

    def tell(told: "Told") -> None:
        line = door_line(told, datetime.now(UTC))
        console.print_result(line, arguments.json, door_line_text(line))
        sys.stdout.flush()

    run_door(config, stop, state=arguments.state, key=arguments.key, tell=tell)
    return 0


def door(arguments: argparse.Namespace) -> int:
    """Write a configuration, try it, or lock."""
    options = options_from(arguments, DoorOptions)
    if arguments.action == "init":
        return _init(options.config, arguments)
    from edge_oneshot_device.door.config_file import read_config

    config = read_config(options.config)
    if arguments.action == "lock":
        from edge_oneshot_device.door.guard import lock_now

        lock_now(config)
        return 0
    from edge_oneshot_device.diagnostics.door_trial import try_door
    from edge_oneshot_device.presentation.results import diagnosis_text

    found = try_door(config, arguments.state, arguments.key)
    console.print_result(found, arguments.json, diagnosis_text(found))
    return found.exit_code


def _init(path: Path, arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.door.config_file import config_template
    from edge_oneshot_device.files import write_atomically
    from edge_oneshot_device.outputs import check_output
    from edge_oneshot_device.state.folder import state_dir

    if path.exists():
        raise InputError(f"{path} is there already: remove it first, or name another file", reason="bad_output")
    check_output(path, state=state_dir(arguments.state))
    write_atomically(path, config_template().encode(), 0o640)
    print(f"{path}: every key is a comment with its default; set what differs, then door check --config {path}")
    return 0
