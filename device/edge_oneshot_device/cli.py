"""The program `edge-oneshot-device`: a command parses, calls, prints; what it does lives elsewhere."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edge_oneshot_device import console

# numpy, Pillow and the runtimes are imported by the commands that need them, so that --help is quick
if TYPE_CHECKING:
    from edge_oneshot_device.bench import BenchResult
    from edge_oneshot_device.gallery import Enrolment, Person
    from edge_oneshot_device.matching import Decision
    from edge_oneshot_device.state import Installation

PROGRAM = "edge-oneshot-device"
REJECTED = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _parser() -> console.Parser:
    parser = console.Parser(prog=PROGRAM, description="Recognize people, or characters, from one image of each.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str, state: bool) -> console.Parser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=command)
        if state:
            added.add_argument(
                "--state", metavar="DIR", help="state folder (EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot)"
            )
        console.add_json(added)
        return added

    init = add("init", _init, "check a bundle, run its self-test and put it in use", state=True)
    init.add_argument("bundle", metavar="NAME.oneshot")
    _add_model_options(init)
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

    enrol = add("enrol", _enrol, "enrol a person from one image or more", state=True)
    enrol.add_argument("person", metavar="PERSON")
    enrol.add_argument("images", metavar="IMAGE", nargs="+")
    how = enrol.add_mutually_exclusive_group()
    how.add_argument("--add", action="store_true", help="add to the images of a person enrolled")
    how.add_argument("--replace", action="store_true", help="put these images in the place of the former ones")

    verify = add("verify", _verify, "decide whether an image shows a person (1:1)", state=True)
    verify.add_argument("person", metavar="PERSON")
    verify.add_argument("image", metavar="IMAGE")

    identify = add("identify", _identify, "decide who an image shows, if anybody enrolled (1:N)", state=True)
    identify.add_argument("image", metavar="IMAGE")

    add("people", _people, "list everybody enrolled", state=True)

    forget = add("forget", _forget, "delete a person", state=True)
    forget.add_argument("person", metavar="PERSON")

    bench = add("bench", _bench, "measure a bundle's latency on this machine", state=False)
    bench.add_argument("bundle", metavar="NAME.oneshot")
    _add_model_options(bench)
    bench.add_argument("--runs", type=int, default=200, metavar="N", help="timed runs (%(default)s)")

    inspect = add("inspect", _inspect, "show what a bundle holds, or what two differ in", state=False)
    inspect.add_argument("bundle", metavar="NAME.oneshot")
    inspect.add_argument("other", metavar="OTHER.oneshot", nargs="?")
    return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", metavar="V", help="the bundle's variant to use (int8)")
    parser.add_argument("--runtime", metavar="R", help="litert, tflite-runtime or onnxruntime (the variant's own)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads of one inference (%(default)s)")


class _Version(argparse.Action):
    """Looks the version up when asked: reading package metadata takes its time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(PROGRAM, version(PROGRAM))
        parser.exit()


def _init(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.state import install

    installation = install(
        arguments.bundle,
        arguments.state,
        variant=arguments.variant,
        runtime=arguments.runtime,
        target_far=arguments.target_far,
        threads=arguments.threads,
        trust=arguments.trust,
    )
    console.print_result(installation, arguments.json, _installation_text(installation))
    return 0


def _enrol(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.recognizer import Recognizer

    with Recognizer.open(arguments.state) as recognizer:
        enrolment = recognizer.enrol(arguments.person, *arguments.images, add=arguments.add, replace=arguments.replace)
    console.print_result(enrolment, arguments.json, _enrolment_text(enrolment))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.recognizer import Recognizer

    with Recognizer.open(arguments.state) as recognizer:
        decision = recognizer.verify(arguments.person, arguments.image)
    return _print_decision(decision, "rejected", arguments.json)


def _identify(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.recognizer import Recognizer

    with Recognizer.open(arguments.state) as recognizer:
        decision = recognizer.identify(arguments.image)
    return _print_decision(decision, "unknown", arguments.json)


def _people(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.recognizer import Recognizer

    with Recognizer.open(arguments.state) as recognizer:
        people = recognizer.people()
    console.print_result(people, arguments.json, _people_text(people))
    return 0


def _forget(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.recognizer import Recognizer

    with Recognizer.open(arguments.state) as recognizer:
        forgotten = recognizer.forget(arguments.person)
    console.print_result(forgotten, arguments.json, _enrolment_text(forgotten))
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.bench import bench
    from edge_oneshot_device.bundle import Bundle
    from edge_oneshot_device.state import choose_variant

    bundle = Bundle.open(arguments.bundle)
    variant = choose_variant(bundle.manifest, arguments.variant)
    result = bench(bundle, variant, runtime=arguments.runtime, threads=arguments.threads, runs=arguments.runs)
    console.print_result(result, arguments.json, _bench_text(result))
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.comparison import inspect

    result, text = inspect(arguments.bundle, arguments.other)
    console.print_result(result, arguments.json, text)
    return 0


def _print_decision(decision: "Decision", refusal: str, as_json: bool) -> int:
    console.print_result(decision, as_json, _decision_text(decision, refusal))
    return 0 if decision.accepted else REJECTED


def _decision_text(decision: "Decision", refusal: str) -> str:
    """The verdict first, then what it rests on."""
    from edge_oneshot_device.summary import percent

    verdict = f"accepted  {decision.person}" if decision.accepted else f"{refusal}  {decision.reason}"
    if decision.score is None:
        return f"{verdict}  nobody is enrolled"
    facts = [f"score {decision.score:.4g}", f"threshold {decision.threshold:.4g}"]
    if decision.runner_up is not None:
        facts.append(f"runner-up {decision.runner_up.person} {decision.runner_up.score:.4g}")
    facts.append(f"target FAR {percent(decision.target_far)}")
    if decision.provisional:
        facts.append("provisional")
    return f"{verdict}  similarity {decision.similarity:.2f}  ({', '.join(facts)})"


def _enrolment_text(enrolment: "Enrolment") -> str:
    if enrolment.templates == 0:
        return f"{enrolment.reason}  {enrolment.person}"
    return f"{enrolment.reason}  {enrolment.person}  {_count(enrolment.templates, 'template')}"


def _people_text(people: "list[Person]") -> str:
    from edge_oneshot_device.summary import align

    if not people:
        return "nobody is enrolled"
    head = ("person", "templates", "enrolled", "fingerprint")
    return align([head, *((p.person, str(p.templates), p.enrolled, p.fingerprint[:12]) for p in people)])


def _installation_text(installation: "Installation") -> str:
    from edge_oneshot_device.summary import UNCALIBRATED, UNSIGNED, align, percent

    signer = installation.signed_by or UNSIGNED
    rows = [
        ("installed", f"{installation.name}, {installation.bytes:,} bytes"),
        ("signed by", f"{signer}, trusted" if installation.trusted else signer),
        (
            "variant",
            f"{installation.variant} on {installation.runtime}, {_count(installation.threads, 'thread')}, "
            f"fingerprint {installation.fingerprints[installation.variant][:12]}",
        ),
    ]
    if installation.target_far is None:
        rows.append(("target FAR", UNCALIBRATED))
    else:
        provisional = ", provisional: less data than it should rest on" if installation.provisional else ""
        rows.append(("target FAR", f"{percent(installation.target_far)}{provisional}"))
    rows.append(("state", f"{installation.state}, {installation.people} enrolled"))
    return align(rows)


def _bench_text(result: "BenchResult") -> str:
    from edge_oneshot_device.summary import align

    rows = [
        ("variant", f"{result.variant} on {result.runtime}, {_count(result.num_threads, 'thread')}, {result.board}"),
        (
            "start",
            f"init {result.init_ms:.2f} ms, first {result.warmup_first_ms:.3f}, warm-up {result.warmup_avg_ms:.3f}",
        ),
        (
            "latency",
            f"median {result.median_ms:.3f} ms, p5 {result.p5_ms:.3f}, p95 {result.p95_ms:.3f}, "
            f"p99 {result.p99_ms:.3f}, least {result.min_ms:.3f}, most {result.max_ms:.3f}",
        ),
        ("mean", f"{result.avg_ms:.3f} ms, deviation {result.std_ms:.3f}, {_count(result.num_runs, 'run')}"),
        ("memory", f"model {result.model_size_mb:.2f} MiB, peak of the process {result.peak_rss_mb:.0f} MiB"),
    ]
    return align(rows)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


if __name__ == "__main__":
    sys.exit(main())
