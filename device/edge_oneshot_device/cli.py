"""The program `edge-oneshot-device`: what may be said; `commands` does it, `wording` says what came of it."""

import argparse
import atexit
import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

from edge_oneshot_device import commands, console

PROGRAM = "edge-oneshot-device"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    gc.set_threshold(50_000, 10, 10)  # imports make much that stays: to look through it again and again takes a tenth
    atexit.register(gc.freeze)  # and once more at the end, when all of it goes anyway, another tenth
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _parser() -> console.Parser:
    parser = console.Parser(prog=PROGRAM, description="Recognize people, or characters, from one image of each.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str, state: bool) -> console.Parser:
        added = subcommands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=command)
        if state:
            added.add_argument(
                "--state", metavar="DIR", help="state folder (EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot)"
            )
            added.add_argument(
                "--key",
                metavar="FILE",
                help="key of the gallery (a systemd credential; EDGE_ONESHOT_KEY, else ~/.config/edge-oneshot/key)",
            )
        console.add_json(added)
        return added

    init = add("init", commands.init, "check a bundle, run its self-test and put it in use", state=True)
    init.add_argument("bundle", metavar="NAME.oneshot")
    _add_model_options(init)
    init.add_argument(
        "--allow-cpu", action="store_true", help="with --runtime edgetpu: run on the CPU where that fails"
    )
    init.add_argument(
        "--target-far",
        type=float,
        metavar="F",
        help="wanted false accept rate of an attempt, such as 0.001 (the smallest that the calibration supports)",
    )
    init.add_argument(
        "--trust",
        metavar="KEY.pub",
        help="take bundles that this key signed, and no others, from now on (the key named before, if any)",
    )
    init.add_argument("--keep-photos", action="store_true", help="keep the images people are enrolled from, sealed")
    init.add_argument(
        "--rejections-per-minute",
        type=int,
        default=10,
        metavar="N",
        help="rejected attempts of identify after which everybody has to wait (%(default)s)",
    )

    others = init.add_mutually_exclusive_group()
    others.add_argument(
        "--re-enrol", action="store_true", help="with another encoder: enrol everybody again from the photos kept"
    )
    others.add_argument(
        "--empty", action="store_true", help="with another encoder: begin with nobody, until rollback brings them back"
    )

    add("rollback", commands.rollback, "put the bundle before this one in use, with its templates", state=True)

    enrol = add("enrol", commands.enrol, "enrol a person from one image or more", state=True)
    enrol.add_argument("person", metavar="PERSON", nargs="?")
    enrol.add_argument("images", metavar="IMAGE", nargs="*")
    enrol.add_argument(
        "--folder", metavar="DIR", help="enrol everybody in a folder who is not yet: a file, or a folder, a person"
    )
    how = enrol.add_mutually_exclusive_group()
    how.add_argument("--add", action="store_true", help="add to the images of a person enrolled")
    how.add_argument("--replace", action="store_true", help="put these images in the place of the former ones")
    _add_access_options(enrol)

    access = add("access", commands.access, "say when a person may come in; without options: always", state=True)
    access.add_argument("person", metavar="PERSON")
    _add_access_options(access)

    verify = add("verify", commands.verify, "decide whether an image shows a person (1:1)", state=True)
    verify.add_argument("person", metavar="PERSON")
    verify.add_argument("image", metavar="IMAGE")

    identify = add("identify", commands.identify, "decide who an image shows, if anybody enrolled (1:N)", state=True)
    identify.add_argument("image", metavar="IMAGE")

    people = add("people", commands.people, "list everybody enrolled, or bring them to another device", state=True)
    people.add_argument("action", metavar="export FILE | import FILE", nargs="?", choices=("export", "import"))
    people.add_argument("file", metavar="", nargs="?")
    people.add_argument(
        "--transfer-key",
        metavar="FILE",
        help="key that seals the file of people, made if need be (the gallery's)",
    )

    forget = add("forget", commands.forget, "delete a person", state=True)
    forget.add_argument("person", metavar="PERSON")

    unlock = add("unlock", commands.unlock, "let a person verify again after too many failures", state=True)
    unlock.add_argument("person", metavar="PERSON")

    audit = add("audit", commands.audit, "show the record of decisions and changes", state=True)
    what = audit.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="walk the whole record: is it as it was written?")
    what.add_argument("--head", action="store_true", help="print the end of the record, to be kept elsewhere")
    what.add_argument("--export", action="store_true", help="print every row as a line of JSON")
    what.add_argument("--keep-days", type=int, metavar="N", help="let go of what is older than so many days")
    audit.add_argument("--against", metavar="HEAD", help="with --check: a head that was kept elsewhere")
    audit.add_argument("--last", type=int, default=20, metavar="N", help="rows to show (%(default)s)")

    backup = add("backup", commands.backup, "copy the gallery while it is in use", state=True)
    backup.add_argument("file", metavar="FILE")

    restore = add("restore", commands.restore, "put a backup in the place of the gallery", state=True)
    restore.add_argument("file", metavar="FILE")
    restore.add_argument("--backup-key", metavar="FILE", help="key of the backup, if it is older than the present one")

    rotate = add("rotate-key", commands.rotate_key, "seal the gallery with a new key", state=True)
    rotate.add_argument("--new-key", metavar="FILE", help="file of the new key, made if need be (the present one)")

    add("doctor", commands.doctor, "look at everything that the door needs", state=True)

    bench = add(
        "bench", commands.bench, "measure what a bundle costs on this machine, or compare two runs", state=False
    )
    bench.add_argument("what", metavar="NAME.oneshot | compare A.json B.json", nargs="+")
    _add_model_options(bench)
    bench.add_argument("--runs", type=int, default=200, metavar="N", help="timed runs (%(default)s)")
    bench.add_argument(
        "--image", metavar="FILE", help="what the stages are shown (a golden image; a face needs a photo)"
    )

    inspect = add("inspect", commands.inspect, "show what a bundle holds, or what two differ in", state=False)
    inspect.add_argument("bundle", metavar="NAME.oneshot")
    inspect.add_argument("other", metavar="OTHER.oneshot", nargs="?")
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", metavar="V", help="the bundle's variant to use (int8)")
    parser.add_argument(
        "--runtime", metavar="R", help="litert, tflite-runtime, edgetpu or onnxruntime (the variant's own)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads of one inference (%(default)s)")


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


if __name__ == "__main__":
    sys.exit(main())
