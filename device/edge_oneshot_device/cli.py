"""The program `edge-oneshot-device`: what may be said; `commands` does it, `wording` says what came of it."""

import argparse
import atexit
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from edge_oneshot_device import commands, console

PROGRAM = "edge-oneshot-device"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    gc.set_threshold(50_000, 10, 10)  # imports make much that stays: to look through it again and again takes a tenth
    atexit.register(gc.freeze)  # and once more at the end, when all of it goes anyway, another tenth
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    words = _command_first(sys.argv[1:] if argv is None else argv)
    console.check_command(words, _COMMANDS, PROGRAM)
    arguments = make_parser(words).parse_args(words)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _command_first(argv: Sequence[str]) -> Sequence[str]:
    """The words with `--state`, `--key` and `--json` behind the command, before which they may stand as well."""
    end = 0
    while end < len(argv):
        name, equals, _ = argv[end].partition("=")
        if name not in ("--state", "--key", "--json"):
            break
        end += 1 if equals or name == "--json" else 2
    return [*argv[end : end + 1], *argv[:end], *argv[end + 1 :]] if end < len(argv) else argv


def make_parser(argv: Sequence[str] = ()) -> console.Parser:
    """The parser of the one command that is given first, else of all: they take longer to make than a door has."""
    parser = console.Parser(prog=PROGRAM, description="Recognize people, or characters, from one image of each.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    asks = "-h" in argv or "--help" in argv
    for name in argv[:1] if argv and argv[0] in _COMMANDS else _COMMANDS:
        command, text, options, state = _COMMANDS[name]
        added = subcommands.add_parser(name, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=command)
        options(added)
        if state:
            _add_state_options(added)
        console.add_json(added)
        if asks:
            from edge_oneshot_device.presentation.help_texts import HELP

            console.explain(added, PROGRAM, HELP[name])
    if asks:
        from edge_oneshot_device.presentation.help_texts import GROUPS

        console.group_commands(parser, {name: one.text for name, one in _COMMANDS.items()}, GROUPS)
    return parser


def _add_state_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state", metavar="DIR", help="state folder (EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot)"
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        help="key of the gallery (systemd's credential before all else; without FILE what the command in "
        "EDGE_ONESHOT_KEY_COMMAND prints, then the file EDGE_ONESHOT_KEY, then ~/.config/edge-oneshot/key)",
    )


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="NAME.oneshot")
    _add_model_options(parser)
    parser.add_argument(
        "--allow-cpu", action="store_true", help="with --runtime edgetpu: run on the CPU where that fails"
    )
    parser.add_argument(
        "--target-far",
        type=console.number,
        metavar="F",
        help="wanted false accept rate of an attempt, such as 0.001 (the smallest that the calibration supports)",
    )
    parser.add_argument(
        "--trust",
        metavar="KEY.pub",
        help="take bundles that this key signed, and no others, from now on (the key named before, if any)",
    )
    parser.add_argument("--keep-photos", action="store_true", help="keep the images people are enrolled from, sealed")
    parser.add_argument(
        "--rejections-per-minute",
        type=console.whole_number,
        default=10,
        metavar="N",
        help="rejected attempts of identify after which everybody has to wait (%(default)s)",
    )

    others = parser.add_mutually_exclusive_group()
    others.add_argument(
        "--re-enrol", action="store_true", help="with another encoder: enrol everybody again from the photos kept"
    )
    others.add_argument(
        "--empty",
        action="store_true",
        help="with another encoder, until rollback brings them back, or where the gallery is gone: begin with nobody",
    )
    others.add_argument(
        "--take-over", action="store_true", help="seal the people of a gallery of version 1: see first whose it is"
    )


def _add_enrol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON", nargs="?")
    parser.add_argument("images", metavar="IMAGE", nargs="*")
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="enrol everybody in a folder who is not yet: an image, or a folder of images, a person; dates and hours"
        " are for all of them",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--add", action="store_true", help="add to the images of a person enrolled")
    how.add_argument("--replace", action="store_true", help="put these images in the place of the former ones")
    parser.add_argument(
        "--even-if-alike",
        action="store_true",
        help="take the images though they would be taken for somebody else who is enrolled: of twins",
    )
    _add_access_options(parser)


def _add_access(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")
    _add_access_options(parser)
    parser.add_argument("--always", action="store_true", help="take all of that away: let the person in at any time")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")
    _add_identify(parser)


def _add_identify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument(
        "--scores",
        action="store_true",
        help="print scores, threshold and runner-up as well: for the administrator, never where an attempt is made",
    )


def _add_people(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="export FILE | import FILE", nargs="?", choices=("export", "import"))
    parser.add_argument("file", metavar="", nargs="?")
    parser.add_argument(
        "--transfer-key",
        metavar="FILE",
        help="key that seals the file of people, made if need be (the gallery's)",
    )


def _add_audit(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="walk the whole record: is it as it was written?")
    what.add_argument("--head", action="store_true", help="print the end of the audit trail, to be kept elsewhere")
    what.add_argument("--export", action="store_true", help="print every row as a line of JSON")
    what.add_argument(
        "--keep-days", type=console.whole_number, metavar="N", help="let go of what is older than so many days"
    )
    parser.add_argument("--against", metavar="HEAD", help="with --check: a head that was kept elsewhere")
    parser.add_argument("--last", type=console.whole_number, default=20, metavar="N", help="rows to show (%(default)s)")


def _add_backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("--backup-key", metavar="FILE", help="key of the backup, if it is older than the present one")


def _add_rotate_key(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--new-key", metavar="FILE", help="file of the new key, made if need be (the present one)")
    what.add_argument(
        "--drop-former",
        action="store_true",
        help="in place of that, delete the keys that this gallery had before: backups of then open no more",
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="NAME.oneshot | compare A.json B.json", nargs="+")
    _add_model_options(parser)
    parser.add_argument("--runs", type=console.whole_number, default=200, metavar="N", help="timed runs (%(default)s)")
    parser.add_argument(
        "--image", metavar="FILE", help="what the stages are shown (a golden image; a face needs a photo)"
    )


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="NAME.oneshot")
    parser.add_argument("other", metavar="OTHER.oneshot", nargs="?")
    parser.add_argument("--all", action="store_true", help="show everything, not one screen")


def _add_person(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("person", metavar="PERSON")


def _nothing(_parser: argparse.ArgumentParser) -> None:
    pass


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", metavar="V", help="the bundle's variant to use (int8)")
    parser.add_argument("--runtime", metavar="R", help="a runtime of the variant, or edgetpu (the variant's first)")
    parser.add_argument(
        "--threads", type=console.whole_number, default=1, metavar="T", help="threads of one inference (%(default)s)"
    )


def _add_access_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--valid-from", metavar="DATE", help="let the person in from then on, such as 2026-12-01")
    parser.add_argument("--valid-until", metavar="DATE", help="let the person in until the end of that day")
    parser.add_argument("--hours", metavar="HOURS", help="such as 'mon-fri 07:00-19:00, sat 08:00-12:00'")


class _Version(argparse.Action):
    """Looks the version up when asked: reading package metadata takes its time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        parser.exit()


class _Command(NamedTuple):
    run: Callable[[argparse.Namespace], int]
    text: str
    options: Callable[[argparse.ArgumentParser], None]
    state: bool = True


_COMMANDS: Final = {
    "init": _Command(commands.init, "check a bundle, run its self-test and put it in use", _add_init),
    "rollback": _Command(commands.rollback, "put the bundle before this one in use, with its templates", _nothing),
    "enrol": _Command(commands.enrol, "enrol a person from one image or more", _add_enrol),
    "access": _Command(commands.access, "change when a person may come in; the rest stays as it was", _add_access),
    "verify": _Command(commands.verify, "decide whether an image shows a person (1:1)", _add_verify),
    "identify": _Command(commands.identify, "decide who an image shows, if anybody enrolled (1:N)", _add_identify),
    "people": _Command(commands.people, "list everybody enrolled, or bring them to another device", _add_people),
    "forget": _Command(commands.forget, "delete a person", _add_person),
    "unlock": _Command(commands.unlock, "let a person verify again after too many failures", _add_person),
    "audit": _Command(commands.audit, "show the audit trail of decisions and changes", _add_audit),
    "backup": _Command(commands.backup, "copy the gallery while it is in use", _add_backup),
    "restore": _Command(commands.restore, "put a backup in the place of the gallery", _add_restore),
    "rotate-key": _Command(commands.rotate_key, "seal the gallery with a new key", _add_rotate_key),
    "doctor": _Command(commands.doctor, "look at everything that the door needs", _nothing),
    "bench": _Command(
        commands.bench, "measure what a bundle costs on this machine, or compare two runs", _add_bench, state=False
    ),
    "inspect": _Command(commands.inspect, "show what a bundle holds, or what two differ in", _add_inspect, state=False),
}


if __name__ == "__main__":
    sys.exit(main())
