"""The workstation's program `edge-oneshot`: what its commands are called and take; `commands` has what they do."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_oneshot import commands
from edge_oneshot.demo.options import DemoOptions
from edge_oneshot.presentation.help_texts import GROUPS, HELP
from edge_oneshot.training.options import ExecutionOptions, TrainOptions
from edge_oneshot.ways import WaysRange, parse_ways
from edge_oneshot_device import console
from edge_oneshot_device.options import add_options

PROGRAM = "edge-oneshot"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    console.check_command(words, HELP, PROGRAM)
    arguments = _parser().parse_args(words)
    result: int = arguments.command(arguments)
    return result


def _parser() -> console.Parser:
    from edge_oneshot import __version__

    parser = console.Parser(
        prog=PROGRAM, description="One-shot recognition: train an encoder, export it, judge what ships."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    _add_demo(subparsers)
    _add_train(subparsers)
    _add_export(subparsers)
    _add_calibrate(subparsers)
    _add_evaluate(subparsers)
    _add_preflight(subparsers)
    _add_inspect(subparsers)
    _add_keygen(subparsers)
    _add_deploy(subparsers)
    listed = subparsers._choices_actions  # in a list of its own, which argparse cannot group
    console.group_commands(parser, {one.dest: str(one.help) for one in listed}, GROUPS)
    listed.clear()
    for name, text in HELP.items():
        console.explain(subparsers.choices[name], PROGRAM, text)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_demo(subparsers: "_Commands[console.Parser]") -> None:
    demo = subparsers.add_parser("demo", help="the whole way on embedded data, two to five minutes; ends with a report")
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the results (default: demo)"
    )
    add_options(demo, DemoOptions)
    console.add_json(demo)
    demo.set_defaults(command=commands.demo)


def _add_train(subparsers: "_Commands[console.Parser]") -> None:
    train = subparsers.add_parser("train", help="train a siamese encoder")
    train.add_argument(
        "data", metavar="DATA", help="glyphs, omniglot, glyphs+omniglot, or a folder with one folder of images a person"
    )
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="resume RUN from its last checkpoint")
    add_options(train, TrainOptions)
    add_options(train, ExecutionOptions)
    console.add_json(train)
    train.set_defaults(command=commands.train)


def _add_export(subparsers: "_Commands[console.Parser]") -> None:
    export = subparsers.add_parser(
        "export", help="export a run's encoder, a shipped one, or one of your own as a calibrated bundle"
    )
    subject = export.add_mutually_exclusive_group(required=True)
    subject.add_argument("run", type=Path, nargs="?", metavar="RUN", help="folder of the run")
    subject.add_argument(
        "--pretrained",
        choices=("base", "tiny", "faces"),
        help="an encoder that is already trained (faces: with the extra of that name)",
    )
    subject.add_argument(
        "--model", type=Path, nargs="+", metavar="FILE", help=".tflite and .onnx files of an encoder of your own"
    )
    export.add_argument(
        "--variants",
        metavar="V,...",
        help="float32, float16, dynamic, int8, coral, onnx-float32, onnx-float16, onnx-int8, or all (int8,float32); "
        "a named one that fails is an error",
    )
    own = export.add_argument_group("for --model")
    own.add_argument("--data", metavar="DATA", help="people that it was not trained on, one folder of images each")
    own.add_argument(
        "--mean",
        type=_numbers,
        metavar="M,...",
        help="of (pixel - mean) / scale; one or three (what the file declares, or 127.5)",
    )
    own.add_argument("--scale", type=_numbers, metavar="S,...", help="likewise")
    own.add_argument(
        "--size", type=_size, metavar="H[xW]", help="of its input in pixels, where the file leaves it free"
    )
    own.add_argument(
        "--output",
        nargs="+",
        metavar="NAME",
        help="of its outputs the embedding; more than one where the files call it differently",
    )
    own.add_argument(
        "--faces",
        nargs="?",
        type=_eyes,
        const=(),
        metavar="X,Y,X,Y",
        help="it is an encoder of faces, which are cut out of photos; with where its input has the middles of the "
        "eyes, in 0..1 (where dlib's has them)",
    )
    own.add_argument("--metric", choices=("cosine", "euclidean"), help="how embeddings are compared (cosine)")
    own.add_argument(
        "--anyway",
        action="store_true",
        default=None,
        help="write it though --mean and --scale contradict the file, or though it does not tell the people apart",
    )
    _add_bundle_options(export)
    export.add_argument("--report", type=Path, metavar="FILE.html", help="what each variant costs, as a page")
    _add_data_dir(export)
    console.add_json(export)
    export.set_defaults(command=commands.export)


def _add_calibrate(subparsers: "_Commands[console.Parser]") -> None:
    calibrate = subparsers.add_parser(
        "calibrate", help="thresholds from your own images, without training; nobody has to enrol again"
    )
    calibrate.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    calibrate.add_argument("--data", required=True, metavar="DATA", help="a folder with one folder of images a person")
    _add_bundle_options(calibrate)
    _add_data_dir(calibrate)
    console.add_json(calibrate)
    calibrate.set_defaults(command=commands.calibrate)


def _add_bundle_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="NAME.oneshot", help="the new bundle")
    parser.add_argument(
        "--target-far",
        type=_rate,
        metavar="F",
        help="wanted false accept rate of a comparison, such as 0.001 (the smallest that the images support)",
    )
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign the bundle with this private key, see keygen")


def _add_evaluate(subparsers: "_Commands[console.Parser]") -> None:
    evaluate = subparsers.add_parser("evaluate", help="judge a bundle through the device runtime, on data it never saw")
    evaluate.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    evaluate.add_argument("--data", required=True, metavar="DATA", help="omniglot, glyphs, or a folder of folders")
    evaluate.add_argument(
        "--protocol",
        required=True,
        choices=("lake", "within-alphabet", "random", "verification", "lfw"),
        help="lake: the official 20-way runs; episodes within alphabets or over all; pairs of images; lfw: the ten "
        "folds of Labeled Faces in the Wild, from a folder with its pairs.txt",
    )
    evaluate.add_argument("--variant", default="int8", metavar="V", help="of the bundle (int8)")
    evaluate.add_argument("--runtime", metavar="R", help="litert, tflite-runtime or onnxruntime (the variant's own)")
    evaluate.add_argument(
        "--ways", type=_ways, default=(5, 20), metavar="N,...", help="of the tasks: 5,20 or 2..20 or 2..all (5,20)"
    )
    evaluate.add_argument("--episodes", type=_count, default=2000, metavar="N", help="for each N of a list (2000)")
    evaluate.add_argument("--seed", type=_natural, default=0, help="of the episodes (0)")
    evaluate.add_argument(
        "--figure", type=Path, metavar="FILE", help="accuracy against N, or the ROC, as .svg, .png or .pdf"
    )
    _add_data_dir(evaluate)
    console.add_json(evaluate)
    evaluate.set_defaults(command=commands.evaluate)


def _add_preflight(subparsers: "_Commands[console.Parser]") -> None:
    preflight = subparsers.add_parser("preflight", help="what the Edge TPU compiler would do with a .tflite file")
    preflight.add_argument("model", type=Path, metavar="MODEL.tflite")
    console.add_json(preflight)
    preflight.set_defaults(command=commands.preflight)


def _add_inspect(subparsers: "_Commands[console.Parser]") -> None:
    inspect = subparsers.add_parser("inspect", help="what a bundle holds, on one screen, or what two differ in")
    inspect.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    inspect.add_argument("other", type=Path, metavar="OTHER.oneshot", nargs="?")
    inspect.add_argument("--all", action="store_true", help="all that it says, not one screen of it")
    console.add_json(inspect)
    inspect.set_defaults(command=commands.inspect)


def _add_keygen(subparsers: "_Commands[console.Parser]") -> None:
    keygen = subparsers.add_parser("keygen", help="make a key that signs bundles")
    keygen.add_argument(
        "--out", type=Path, required=True, metavar="KEY", help="the private key; the public one gets the name KEY.pub"
    )
    console.add_json(keygen)
    keygen.set_defaults(command=commands.keygen)


def _add_deploy(subparsers: "_Commands[console.Parser]") -> None:
    deploy = subparsers.add_parser("deploy", help="build the archive that installs a bundle on a device, or do it")
    deploy.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    deploy.add_argument("--out", type=Path, metavar="FILE.tar.gz", help="the archive (NAME-MACHINE-pyPYTHON.tar.gz)")
    deploy.add_argument(
        "--machine", choices=("aarch64", "x86_64"), default="aarch64", help="the device's, see uname -m (%(default)s)"
    )
    deploy.add_argument(
        "--python",
        choices=("3.11", "3.12", "3.13", "3.14"),
        default="3.13",
        help="the device's, see python3 -V (%(default)s, of today's Raspberry Pi OS; 3.11 is that of the one before)",
    )
    deploy.add_argument("--host", metavar="USER@HOST", help="install it there through ssh, with sudo")
    deploy.add_argument("--variant", metavar="V", help="the variant to use (int8)")
    deploy.add_argument("--runtime", metavar="R", help="the runtime to use (the variant's own)")
    deploy.add_argument("--allow-cpu", action="store_true", help="see edge-oneshot-device init")
    deploy.add_argument("--target-far", type=_rate, metavar="F", help="wanted false accept rate of an attempt")
    deploy.add_argument("--trust", type=Path, metavar="KEY.pub", help="the key that the device trusts from now on")
    others = deploy.add_mutually_exclusive_group()
    others.add_argument("--re-enrol", action="store_true", help="see edge-oneshot-device init")
    others.add_argument("--empty", action="store_true", help="see edge-oneshot-device init")
    console.add_json(deploy)
    deploy.set_defaults(command=commands.deploy)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of Omniglot's archives (EDGE_ONESHOT_DATA; without either, downloaded to the user's cache)",
    )


def _natural(text: str) -> int:
    value = console.whole_number(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return value


def _count(text: str) -> int:
    value = console.whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _rate(text: str) -> float:
    value = console.number(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError("must be above 0 and below 1")
    return value


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(console.number(part) for part in text.split(","))
    if not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError("must be numbers")
    return values


def _eyes(text: str) -> tuple[float, ...]:
    values = _numbers(text)
    if len(values) != 4 or values[:2] == values[2:] or not all(0.0 <= value <= 1.0 for value in values):
        raise argparse.ArgumentTypeError("must be x and y of both eyes, in 0 to 1")
    return values


def _size(text: str) -> tuple[int, int]:
    sides = tuple(int(side) for side in text.split("x"))
    if len(sides) not in (1, 2) or not all(8 <= side <= 1024 for side in sides):
        raise argparse.ArgumentTypeError("must be 8 to 1024, or two of these such as 112x96 (height x width)")
    return sides[0], sides[-1]


def _ways(text: str) -> tuple[int, ...] | WaysRange:
    try:
        return parse_ways(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
