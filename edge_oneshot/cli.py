"""The workstation's program: edge-oneshot train, export, evaluate, inspect, keygen, demo."""

import argparse
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_oneshot.ways import WaysRange, parse_ways
from edge_oneshot_device import console
from edge_oneshot_device.errors import InputError

if TYPE_CHECKING:
    from edge_oneshot_export.assembling import ExportReport

_DEFAULT_MINUTES = 20.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return console.run(lambda: _main(argv), as_json=console.wants_json(argv))


def _main(argv: Sequence[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    result: int = arguments.command(arguments)
    return result


def _import_tensorflow() -> None:
    """Import TensorFlow without its start-up notes: an error is one line on stderr, not the tenth."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from edge_oneshot_export.conversion import quiet

    with Path(os.devnull).open("w") as null, quiet(null.fileno()):
        import tensorflow  # noqa: F401 - for its side effects, once and here
    for name in ("tensorflow", "absl", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _parser() -> console.Parser:
    from edge_oneshot import __version__

    parser = console.Parser(
        prog="edge-oneshot", description="One-shot recognition: train an encoder, export it, judge what ships."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_train(commands)
    _add_export(commands)
    _add_calibrate(commands)
    _add_evaluate(commands)
    _add_preflight(commands)
    _add_inspect(commands)
    _add_keygen(commands)
    return parser


_Commands = argparse._SubParsersAction  # argparse has no public name for it


def _add_demo(commands: "_Commands[console.Parser]") -> None:
    demo = commands.add_parser("demo", help="the whole way on embedded data, a few minutes; ends with a report")
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="folder of the results (demo)")
    demo.add_argument("--seed", type=_natural, default=0, help="of everything random (0)")
    console.add_json(demo)
    demo.set_defaults(command=_demo)


def _add_train(commands: "_Commands[console.Parser]") -> None:
    train = commands.add_parser("train", help="train a siamese encoder")
    train.add_argument(
        "data", metavar="DATA", help="glyphs, omniglot, glyphs+omniglot, or a folder with one folder of images a person"
    )
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--resume", action="store_true", help="go on with RUN from its last checkpoint")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=_positive, metavar="M", help="length by the clock (20)")
    length.add_argument(
        "--images", type=_count, metavar="N", help="length in images seen; repeats exactly with its seed"
    )
    train.add_argument("--seed", type=_natural, help="of everything random (0)")
    train.add_argument("--size", type=_side, help="side of the encoder's input in pixels, 16 to 256 (48)")
    train.add_argument("--embedding", type=_count, help="size of the embedding (128)")
    train.add_argument("--batch", type=_count, help="images a step (64)")
    train.add_argument(
        "--held-out", type=_count, metavar="N", help="alphabets or people kept out of training (a sixth)"
    )
    train.add_argument(
        "--augment", choices=("drawings", "photos"), help="how images vary (drawings; photos for a folder)"
    )
    train.add_argument("--learning-rate", type=_positive, help="the highest (0.002)")
    train.add_argument(
        "--orientations",
        type=int,
        choices=(1, 4, 8),
        help="upright; turned by quarters, each a class; or mirrored too (4 for drawings, 1 for photos)",
    )
    train.add_argument(
        "--framing", choices=("whole", "ink"), help="of an image: all of it, or centred on its ink (ink for drawings)"
    )
    train.add_argument(
        "--net",
        metavar="NET",
        help="base, tiny, or the encoder's layers, such as 'down16 24 pool 32 res32 1x16' (base)",
    )
    train.add_argument(
        "--objective",
        choices=("cosine", "contrastive", "triplet", "prototypical", "koch"),
        help="what it is trained by (cosine: softmax with a margin)",
    )
    train.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        help="of the step (float32); bfloat16 is faster on processors with AMX and on GPUs",
    )
    train.add_argument(
        "--strategy",
        choices=("one", "mirrored", "multiworker"),
        default="one",
        help="one device; all GPUs of this machine; or a process on each machine of TF_CONFIG (one)",
    )
    train.add_argument("--tensorboard", action="store_true", help="keep logs for TensorBoard in RUN/tensorboard")
    _add_data_dir(train)
    console.add_json(train)
    train.set_defaults(command=_train)


def _add_export(commands: "_Commands[console.Parser]") -> None:
    export = commands.add_parser(
        "export", help="export a run's encoder, a shipped one, or one of your own as a calibrated bundle"
    )
    subject = export.add_mutually_exclusive_group(required=True)
    subject.add_argument("run", type=Path, nargs="?", metavar="RUN", help="folder of the run")
    subject.add_argument("--pretrained", choices=("base", "tiny"), help="an encoder that is already trained")
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
    own.add_argument("--mean", type=_numbers, metavar="M,...", help="of (pixel - mean) / scale; one or three (127.5)")
    own.add_argument("--scale", type=_numbers, metavar="S,...", help="likewise (127.5)")
    own.add_argument("--metric", choices=("cosine", "euclidean"), help="how embeddings are compared (cosine)")
    _add_bundle_options(export)
    export.add_argument("--report", type=Path, metavar="FILE.html", help="what each variant costs, as a page")
    _add_data_dir(export)
    console.add_json(export)
    export.set_defaults(command=_export)


def _add_calibrate(commands: "_Commands[console.Parser]") -> None:
    calibrate = commands.add_parser(
        "calibrate", help="thresholds from your own images, without training; nobody has to enrol again"
    )
    calibrate.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    calibrate.add_argument("--data", required=True, metavar="DATA", help="a folder with one folder of images a person")
    _add_bundle_options(calibrate)
    _add_data_dir(calibrate)
    console.add_json(calibrate)
    calibrate.set_defaults(command=_calibrate)


def _add_bundle_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="NAME.oneshot", help="the new bundle")
    parser.add_argument(
        "--target-far",
        type=_rate,
        metavar="F",
        help="wanted false accept rate of a comparison, such as 0.001 (the smallest that the images support)",
    )
    parser.add_argument("--sign", type=Path, metavar="KEY", help="sign the bundle with this private key, see keygen")


def _add_evaluate(commands: "_Commands[console.Parser]") -> None:
    evaluate = commands.add_parser("evaluate", help="judge a bundle through the device runtime, on data it never saw")
    evaluate.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    evaluate.add_argument("--data", required=True, metavar="DATA", help="omniglot, glyphs, or a folder of folders")
    evaluate.add_argument(
        "--protocol",
        required=True,
        choices=("lake", "within-alphabet", "random", "verification"),
        help="lake: the official 20-way runs; episodes within alphabets or over all; pairs of images",
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
    evaluate.set_defaults(command=_evaluate)


def _add_preflight(commands: "_Commands[console.Parser]") -> None:
    preflight = commands.add_parser("preflight", help="what the Edge TPU compiler would do with a .tflite file")
    preflight.add_argument("model", type=Path, metavar="MODEL.tflite")
    console.add_json(preflight)
    preflight.set_defaults(command=_preflight)


def _add_inspect(commands: "_Commands[console.Parser]") -> None:
    inspect = commands.add_parser("inspect", help="what a bundle holds, on one screen, or what two differ in")
    inspect.add_argument("bundle", type=Path, metavar="NAME.oneshot")
    inspect.add_argument("other", type=Path, metavar="OTHER.oneshot", nargs="?")
    console.add_json(inspect)
    inspect.set_defaults(command=_inspect)


def _add_keygen(commands: "_Commands[console.Parser]") -> None:
    keygen = commands.add_parser("keygen", help="make a key that signs bundles")
    keygen.add_argument(
        "--out", type=Path, required=True, metavar="KEY", help="the private key; the public one gets the name KEY.pub"
    )
    console.add_json(keygen)
    keygen.set_defaults(command=_keygen)


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder of Omniglot's archives (EDGE_ONESHOT_DATA; without either, downloaded to the user's cache)",
    )


def _demo(arguments: argparse.Namespace) -> int:
    _import_tensorflow()
    from edge_oneshot.demo.demo import run_demo

    return run_demo(arguments.out, seed=arguments.seed, as_json=arguments.json)


def _train(arguments: argparse.Namespace) -> int:
    _import_tensorflow()
    from edge_oneshot import display
    from edge_oneshot.errors import StoppedError
    from edge_oneshot.training import loop
    from edge_oneshot.training.runs import Run
    from edge_oneshot.training.summary import summarise

    names = [
        *("minutes", "images", "seed", "size", "embedding", "batch", "held_out", "augment", "orientations", "framing"),
        *("learning_rate", "net", "objective", "precision"),
    ]
    how = {name: getattr(arguments, name) for name in ("strategy", "tensorboard", "data_dir")}
    given = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    try:
        with display.training_progress() as report:
            if arguments.resume:
                loop.require_same(arguments.out, arguments.data, given)
                run = loop.resume(arguments.out, report=report, **how)
            else:
                if not {"minutes", "images"} & given.keys():
                    given["minutes"] = _DEFAULT_MINUTES
                run = loop.train(arguments.data, arguments.out, report=report, **how, **given)
    except KeyboardInterrupt:
        if not (arguments.out / "run.json").exists():
            raise
        seen = Run.open(arguments.out).record.images_seen
        message = f"{arguments.out}: stopped after {seen:,} images; it can be exported as it is; go on with --resume"
        raise StoppedError(message, reason="interrupted") from None
    if not (run.path / "run.json").exists():
        return 0  # a worker beside the first, which writes the run
    result = summarise(run)
    console.print_result(result, arguments.json, display.training_text(result))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from edge_oneshot_export.signing import load_key

    key = load_key(arguments.sign) if arguments.sign else None
    own = {name: getattr(arguments, name) for name in ("data", "mean", "scale", "metric")}
    own = {name: value for name, value in own.items() if value is not None}
    how = {name: getattr(arguments, name) for name in ("target_far", "data_dir")} | {"key": key}
    if arguments.model and (arguments.variants or "data" not in own):
        message = "--model needs --data, and takes no --variants: each file is one"
        raise InputError(message, reason="wrong_use")
    if own and not arguments.model:
        raise InputError(f"--{next(iter(own))} goes with --model: a run knows its own", reason="wrong_use")
    if not arguments.model:
        _import_tensorflow()
    from edge_oneshot import display

    if arguments.report:
        from edge_oneshot.report.report import require_page, write_drift_report

        require_page(arguments.report)
    with display.steps() as progress:
        if arguments.model:
            from edge_oneshot.adopting import export_files

            report = export_files(arguments.model, arguments.out, progress=progress, **own, **how)
        else:
            from edge_oneshot import bundling
            from edge_oneshot.pretrained import pretrained_run
            from edge_oneshot.training.runs import Run
            from edge_oneshot_export.variants import VARIANTS

            named = arguments.variants not in (None, "all")
            variants = VARIANTS if arguments.variants == "all" else bundling.DEFAULT_VARIANTS
            report = bundling.export_run(
                Run.open(arguments.run) if arguments.run else pretrained_run(arguments.pretrained),
                arguments.out,
                variants=arguments.variants.split(",") if named else variants,
                asked=named,
                progress=progress,
                **how,
            )
    if arguments.report:
        write_drift_report(report, arguments.report)
    _print_export(report, (), arguments.json)
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from edge_oneshot import display
    from edge_oneshot.calibrating import calibrate_bundle
    from edge_oneshot_export.signing import load_key

    key = load_key(arguments.sign) if arguments.sign else None
    how = {name: getattr(arguments, name) for name in ("target_far", "data_dir")}
    with display.steps() as progress:
        report, seen = calibrate_bundle(
            arguments.bundle, arguments.out, arguments.data, key=key, progress=progress, **how
        )
    _print_export(report, seen, arguments.json)
    return 0


def _print_export(report: "ExportReport", seen: Sequence[str], as_json: bool) -> None:
    from edge_oneshot import display
    from edge_oneshot_device import Bundle
    from edge_oneshot_device.summary import summarise

    summary = summarise(Bundle.open(report.path))
    text = display.export_text(report, summary, seen)
    console.print_result(display.bundle_summary(report, summary, seen), as_json, text)


def _evaluate(arguments: argparse.Namespace) -> int:
    from edge_oneshot import display
    from edge_oneshot.judging import evaluate

    if arguments.figure is not None:
        from edge_oneshot.report import charts

        charts.require_figure(arguments.figure)
    with display.counter("images embedded") as progress:
        result = evaluate(
            arguments.bundle,
            arguments.data,
            arguments.protocol,
            ways=arguments.ways,
            episodes=arguments.episodes,
            seed=arguments.seed,
            variant=arguments.variant,
            runtime=arguments.runtime,
            data_dir=arguments.data_dir,
            progress=progress,
        )
    if arguments.figure is not None:
        charts.write_figure(arguments.figure, result)
    console.print_result(result, arguments.json, display.evaluation_text(result))
    return 0


def _preflight(arguments: argparse.Namespace) -> int:
    from edge_oneshot.preflight_text import preflight_text
    from edge_oneshot_export.edgetpu_compiler import check

    report = check(arguments.model)
    console.print_result(report, arguments.json, preflight_text(report))
    run = report.compiler
    return 0 if report.mapped and (run is None or (run.file and not run.parsed.cpu_ops)) else 1


def _inspect(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.comparison import inspect

    result, text = inspect(arguments.bundle, arguments.other)
    console.print_result(result, arguments.json, text)
    return 0


def _keygen(arguments: argparse.Namespace) -> int:
    from edge_oneshot_export.signing import generate_key

    pair = generate_key(arguments.out)
    text = (
        f"{pair.private}: the private key: keep it secret, and a copy of it safe\n"
        f"{pair.public}: the public key {pair.key}\n"
        f"next: edge-oneshot export RUN --out NAME.oneshot --sign {pair.private}; "
        f"edge-oneshot-device init NAME.oneshot --trust {pair.public}"
    )
    console.print_result(pair, arguments.json, text)
    return 0


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be below 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be a positive number")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError("must be above 0 and below 1")
    return value


def _numbers(text: str) -> tuple[float, ...]:
    values = tuple(float(part) for part in text.split(","))
    if not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError("must be numbers")
    return values


def _side(text: str) -> int:
    value = int(text)
    if not 16 <= value <= 256:
        raise argparse.ArgumentTypeError("must be 16 to 256")
    return value


def _ways(text: str) -> tuple[int, ...] | WaysRange:
    try:
        return parse_ways(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
