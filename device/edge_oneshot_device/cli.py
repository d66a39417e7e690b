"""The command line of `edge-oneshot-device`: its commands and their options. `commands` has what they do."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from edge_oneshot_device import commands, console, door_commands
from edge_oneshot_device.door.options import DoorOptions, RunOptions
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.measuring.options import BenchOptions
from edge_oneshot_device.options import add_options
from edge_oneshot_device.presentation.help_texts import GROUPS, HELP, SUMMARIES
from edge_oneshot_device.recognition.options import LookalikeOptions

PROGRAM = "edge-oneshot-device"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    words = _command_first(sys.argv[1:] if argv is None else argv)
    console.check_command(words, _COMMANDS, PROGRAM)
    arguments = make_parser().parse_args(words)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _command_first(argv: Sequence[str]) -> Sequence[str]:
    """The words with `--state`, `--key` and `--json` after the command: they may be given before it as well."""
    end = 0
    while end < len(argv):
        name, equals, _ = argv[end].partition("=")
        if name not in ("--state", "--key", "--json"):
            break
        end += 1 if equals or name == "--json" else 2
    return [*argv[end : end + 1], *argv[:end], *argv[end + 1 :]] if end < len(argv) else argv


def make_parser() -> console.Parser:
    """The parser of all commands."""
    parser = console.Parser(prog=PROGRAM, description="Recognize people, or characters, from one image of each.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for name, command in _COMMANDS.items():
        added = subcommands.add_parser(name)
        added.set_defaults(command=command.run)
        command.add_arguments(added)
        if command.has_state:
            _add_state_options(added)
        console.add_json(added)
        console.explain(added, PROGRAM, HELP[name])
    console.group_commands(parser, SUMMARIES, GROUPS)
    return parser


def _add_state_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        metavar="DIR",
        help="state folder (default: EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot)",
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="file of the gallery's key; a credential from systemd comes first (default: what the command in "
        "EDGE_ONESHOT_KEY_COMMAND prints, else the file EDGE_ONESHOT_KEY, else ~/.config/edge-oneshot/key)",
    )


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="NAME.oneshot")
    add_options(parser, InstallOptions)


def _add_enrol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON", nargs="?")
    parser.add_argument("files", metavar="FILE", nargs="*")
    _add_microphone(parser)
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="enrol everybody in a folder who is not enrolled yet; each person is a file, or a folder of files:"
        " images, or recordings where the bundle takes these; dates and hours apply to all of them",
    )
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--add", action="store_true", help="add the files to those of a person who is enrolled")
    known.add_argument("--replace", action="store_true", help="replace the files of a person who is enrolled")
    parser.add_argument(
        "--even-if-alike",
        action="store_true",
        help="accept files that match another person, such as a twin",
    )
    _add_access_options(parser)


def _add_access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")
    _add_access_options(parser)
    parser.add_argument("--always", action="store_true", help="remove all limits: the person may come in at any time")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")
    _add_identify(parser)


def _add_identify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", nargs="?")
    _add_microphone(parser)
    parser.add_argument(
        "--scores",
        action="store_true",
        help="also print scores, threshold and runner-up; for the administrator, never where people make attempts",
    )


def _add_people(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="export FILE | import FILE", nargs="?", choices=("export", "import"))
    parser.add_argument("file", metavar="", nargs="?")
    parser.add_argument(
        "--transfer-key",
        metavar="FILE",
        help="key that seals the exported file, created if it does not exist (default: the gallery's key)",
    )


def _add_lookalikes(parser: argparse.ArgumentParser) -> None:
    add_options(parser, LookalikeOptions)


def _add_audit(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="verify the whole audit trail")
    what.add_argument("--head", action="store_true", help="print the head of the audit trail, to be kept elsewhere")
    what.add_argument("--export", action="store_true", help="print every row as a line of JSON")
    what.add_argument(
        "--keep-days", type=console.whole_number, metavar="N", help="delete rows that are older than N days"
    )
    parser.add_argument("--against", metavar="HEAD", help="with --check: a head that was kept elsewhere")
    parser.add_argument(
        "--last", type=console.whole_number, default=20, metavar="N", help="rows to show (default: %(default)s)"
    )


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--backup-key", metavar="FILE", help="key of the backup, if it is older than the current key")


def _add_rotate_key(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--new-key",
        metavar="FILE",
        help="file of the new key, created if it does not exist (default: the current file)",
    )
    what.add_argument(
        "--drop-former",
        action="store_true",
        help="do not rotate: delete the former keys of this gallery; backups that need them can no longer be opened",
    )


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="check also what this configuration of a door names")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME.oneshot | compare A.json B.json", nargs="+")
    add_options(parser, BenchOptions)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="NAME.oneshot")
    parser.add_argument("other", metavar="OTHER.oneshot", nargs="?")
    parser.add_argument("--all", action="store_true", help="show everything, not only one screen")


def _add_run(parser: argparse.ArgumentParser) -> None:
    add_options(parser, RunOptions)


def _add_door(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="init | check | lock", choices=("init", "check", "lock"))
    add_options(parser, DoorOptions)


def _add_person(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")


def _add_pin(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")
    parser.add_argument("--remove", action="store_true", help="take the person's PIN away")


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    pass


def _add_microphone(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--microphone",
        metavar="DEVICE",
        nargs="?",
        const="default",
        help="record what is said now, with a bundle of speech, in place of a file: the system's microphone, or the"
        " number or a part of the name of another",
    )


def _add_access_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--valid-from", metavar="DATE", help="first day on which the person may come in: 2026-12-01")
    parser.add_argument("--valid-until", metavar="DATE", help="last day on which the person may come in")
    parser.add_argument(
        "--hours", metavar="HOURS", help="hours in which the person may come in: 'mon-fri 07:00-19:00, sat 08:00-12:00'"
    )


class _Version(argparse.Action):
    """Prints the version; reads the package's metadata only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        parser.exit()


class _Command(NamedTuple):
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None]
    has_state: bool = True


_COMMANDS: Final = {
    "init": _Command(commands.init, _add_init),
    "rollback": _Command(commands.rollback, _add_nothing),
    "enrol": _Command(commands.enrol, _add_enrol),
    "access": _Command(commands.access, _add_access),
    "verify": _Command(commands.verify, _add_verify),
    "identify": _Command(commands.identify, _add_identify),
    "people": _Command(commands.people, _add_people),
    "lookalikes": _Command(commands.lookalikes, _add_lookalikes),
    "forget": _Command(commands.forget, _add_person),
    "unlock": _Command(commands.unlock, _add_person),
    "pin": _Command(commands.pin, _add_pin),
    "run": _Command(door_commands.run, _add_run),
    "door": _Command(door_commands.door, _add_door),
    "audit": _Command(commands.audit, _add_audit),
    "backup": _Command(commands.backup, _add_backup),
    "restore": _Command(commands.restore, _add_restore),
    "rotate-key": _Command(commands.rotate_key, _add_rotate_key),
    "doctor": _Command(commands.doctor, _add_doctor),
    "bench": _Command(commands.bench, _add_bench, has_state=False),
    "inspect": _Command(commands.inspect, _add_inspect, has_state=False),
}


if __name__ == "__main__":
    sys.exit(main())
