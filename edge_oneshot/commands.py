"""The commands of `edge-oneshot`: each takes its arguments, calls, prints, and returns the exit code.

Heavy modules are imported by the commands that need them, so that --help is fast.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from edge_oneshot.bundle_options import EncoderFileOptions, EvaluateOptions
from edge_oneshot.data.options import DataOptions
from edge_oneshot_device import console
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.image_files import PassedOver, passed_over_text
from edge_oneshot_device.options import given, options_from
from edge_oneshot_device.outputs import check_folder, check_output
from edge_oneshot_export.options import CalibrateOptions, ExportOptions

if TYPE_CHECKING:
    from edge_oneshot_export.packing.packer import ExportReport


def demo(arguments: argparse.Namespace) -> int:
    """Run every stage on generated drawings or spoken words, or show a door at work."""
    from edge_oneshot.demo.options import DemoOptions

    options = options_from(arguments, DemoOptions)
    check_folder(arguments.out)
    if options.door and options.speech:
        raise InputError("--door and --speech are two demos: give one of them", reason="wrong_use")
    if options.door:
        _demo_door(arguments)
    data, time = "drawings", "a minute and a half"
    if options.speech:
        from edge_oneshot.data import espeak

        espeak.version()  # an error where it is missing, before the seconds that TensorFlow takes
        data, time = "spoken words", "about six minutes"
    if not arguments.json:
        says = f"train an encoder on generated {data}, export it, evaluate it, use it on a device, write a report"
        print(f"The demo: {says}; {time} on two idle cores. TensorFlow starts ...", file=sys.stderr)
    _import_tensorflow()
    from edge_oneshot.demo.demo import STAGES, subject_of
    from edge_oneshot.demo.demo import demo as run_demo
    from edge_oneshot.presentation.demo_result import demo_text
    from edge_oneshot.presentation.progress import demo_progress

    with demo_progress(STAGES, as_json=arguments.json) as progress:
        result = run_demo(arguments.out, options, progress=progress)
    console.print_result(result, arguments.json, demo_text(result, subject_of(options)))
    return 0


def _demo_door(arguments: argparse.Namespace) -> NoReturn:
    """Make what a door needs; then the device's own program takes the place of this one."""
    from edge_oneshot.demo.door import has_bundle, prepare_door
    from edge_oneshot.presentation.progress import step_progress

    folder = arguments.out / "door"
    if not has_bundle(folder):
        if not arguments.json:
            says = "make a bundle for faces, enrol one person from one photo, compose a scene, run a door"
            print(f"The demo of a door: {says}; about a minute. TensorFlow starts ...", file=sys.stderr)
        _import_tensorflow()
    with step_progress(as_json=arguments.json) as progress:
        files = prepare_door(folder, progress)
    command = [*files.command, "--json" if arguments.json else "--show"]
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 (no shell is wanted)


def train(arguments: argparse.Namespace) -> int:
    """Train an encoder, or resume its training."""
    from edge_oneshot.training.options import ExecutionOptions, TrainOptions

    options, execution = options_from(arguments, TrainOptions), options_from(arguments, ExecutionOptions)
    check_folder(arguments.out, folders=[_data_path(arguments.data)])
    if not arguments.resume:
        from edge_oneshot.training.run_folder import require_no_run

        require_no_run(arguments.out)  # before the seconds that TensorFlow and the data take
    _import_tensorflow()
    from edge_oneshot.data.loading import passed_over
    from edge_oneshot.errors import StoppedError
    from edge_oneshot.presentation import results
    from edge_oneshot.presentation.progress import training_progress
    from edge_oneshot.training import train as training
    from edge_oneshot.training.run_summary import SkippedPhoto, summarise
    from edge_oneshot.training.runs import Run

    out, data = arguments.out, arguments.data
    skipped: list[SkippedPhoto] = []

    def skip(name: str, reason: str) -> None:
        skipped.append(SkippedPhoto(name, reason))
        if not arguments.json:
            print(f"{name}: {reason}, left out", file=sys.stderr)

    try:
        with training_progress(as_json=arguments.json) as report:
            if arguments.resume:
                training.require_same(out, data, given(arguments, TrainOptions))
                run = training.resume(out, execution, report=report, skipped=skip)
            else:
                run = training.train(data, out, options, execution, report=report, skipped=skip)
    except KeyboardInterrupt:
        if not (out / "run.json").exists():
            raise
        seen = Run.open(out).record.images_seen
        message = f"{out}: stopped after {seen:,} images; export it as it is, or resume it with --resume"
        raise StoppedError(message, reason="interrupted") from None
    if not (run.path / "run.json").exists():
        return 0  # of several workers only the first writes the run
    passed = passed_over(data)
    result = summarise(run, [*skipped, *(SkippedPhoto(one.name, one.reason) for one in passed)])
    console.print_result(result, arguments.json, results.with_passed_over(results.training_text(result), passed))
    return 0


def export(arguments: argparse.Namespace) -> int:
    """Export a run, a shipped encoder, or model files as a calibrated bundle."""
    from edge_oneshot_export.keras_export import check_export

    options = options_from(arguments, ExportOptions)
    own = [*(["--data"] if arguments.data else []), *(f"--{name}" for name in given(arguments, EncoderFileOptions))]
    if arguments.model and (options.variants is not None or not arguments.data):
        message = "--model needs --data, and takes no --variants: each file is one"
        raise InputError(message, reason="wrong_use")
    if own and not arguments.model:
        raise InputError(f"{own[0]} goes with --model: a run knows its own", reason="wrong_use")
    if arguments.weights and arguments.pretrained != "faces":
        raise InputError("--weights goes with --pretrained faces: leave it out", reason="wrong_use")
    inputs = [*(arguments.model or ()), _data_path(arguments.data), options.sign]
    check_output(arguments.out, inputs=inputs, folders=[arguments.weights])
    if arguments.report:
        check_output(arguments.report, inputs=[*inputs, arguments.out])
    check_export(arguments.out, options)
    if not arguments.model or "faces" in given(arguments, EncoderFileOptions):
        _import_tensorflow()
    from edge_oneshot.presentation.progress import step_progress

    if arguments.report:
        from edge_oneshot.report.report import require_page, write_drift_report

        require_page(arguments.report)
    unreadable: list[PassedOver] = []
    with step_progress(as_json=arguments.json) as progress, _naming(unreadable):
        report = _export(arguments, options, progress, _listed_in(unreadable))
    if arguments.report:
        write_drift_report(report, arguments.report)
    _print_export(report, (), arguments, unreadable)
    return 0


def _export(
    arguments: argparse.Namespace,
    options: ExportOptions,
    progress: Callable[[str], None],
    unreadable: Callable[[str, str], None],
) -> "ExportReport":
    """Export model files, the face encoder, or a run."""
    out, data_dir = arguments.out, options_from(arguments, DataOptions).data_dir
    if arguments.model:
        from edge_oneshot.file_export import export_files

        own = options_from(arguments, EncoderFileOptions)
        return export_files(
            arguments.model,
            out,
            arguments.data,
            options,
            own,
            data_dir=data_dir,
            progress=progress,
            unreadable=unreadable,
        )
    if arguments.pretrained == "faces":
        from edge_oneshot.faces.face_export import export_faces

        return export_faces(out, options, weights=arguments.weights, progress=progress)
    from edge_oneshot.pretrained import pretrained_run
    from edge_oneshot.run_export import export_run
    from edge_oneshot.training.runs import Run

    run = Run.open(arguments.run) if arguments.run else pretrained_run(arguments.pretrained)
    return export_run(run, out, options, data_dir=data_dir, progress=progress)


def calibrate(arguments: argparse.Namespace) -> int:
    """Write a bundle with new thresholds."""
    from edge_oneshot.bundle_recalibration import recalibrate_bundle
    from edge_oneshot.presentation.progress import step_progress

    options, data_dir = options_from(arguments, CalibrateOptions), options_from(arguments, DataOptions).data_dir
    check_output(arguments.out, inputs=[arguments.bundle, _data_path(arguments.data), options.sign])
    unreadable: list[PassedOver] = []
    with step_progress(as_json=arguments.json) as progress, _naming(unreadable):
        report, seen = recalibrate_bundle(
            arguments.bundle,
            arguments.out,
            arguments.data,
            options,
            data_dir=data_dir,
            progress=progress,
            unreadable=_listed_in(unreadable),
        )
    _print_export(report, seen, arguments, unreadable)
    return 0


@contextmanager
def _naming(left: Sequence[PassedOver]) -> Iterator[None]:
    """Say with the error that too few people are left which files could not be read."""
    from edge_oneshot_export.errors import ModelError

    try:
        yield
    except ModelError as error:
        if not left or error.reason != "too_few_people":
            raise
        raise ModelError(f"{error} ({passed_over_text(left)})", reason=error.reason) from error


def _listed_in(found: list[PassedOver]) -> Callable[[str, str], None]:
    """Keep each file that is left out, and the reason."""
    return lambda name, reason: found.append(PassedOver(name, reason))


def _print_export(
    report: "ExportReport", seen: Sequence[str], arguments: argparse.Namespace, unreadable: Sequence[PassedOver]
) -> None:
    from edge_oneshot.data.loading import passed_over
    from edge_oneshot.presentation import results
    from edge_oneshot_device import Bundle
    from edge_oneshot_device.inspection.bundle_summary import summarise

    summary = summarise(Bundle.open(report.path))
    passed = [*passed_over(arguments.data), *unreadable]
    text = results.with_passed_over(results.export_text(report, summary, seen), passed)
    console.print_result(results.bundle_summary(report, summary, seen, passed), arguments.json, text)


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a bundle."""
    from edge_oneshot import bundle_evaluation
    from edge_oneshot.data.loading import passed_over
    from edge_oneshot.presentation import results
    from edge_oneshot.presentation.progress import evaluation_progress
    from edge_oneshot_export.judging.folds import FoldsResult

    options, data_dir = options_from(arguments, EvaluateOptions), options_from(arguments, DataOptions).data_dir
    if arguments.figure is not None and options.protocol == "lfw":
        raise InputError("--figure draws no lfw; leave it out", reason="wrong_use")
    if arguments.figure is not None:
        from edge_oneshot.report import charts

        charts.require_figure(arguments.figure)
        data = _data_path(arguments.data)
        check_output(arguments.figure, inputs=[arguments.bundle, data], folders=[data])
    unreadable: list[PassedOver] = []
    with evaluation_progress(as_json=arguments.json) as progress, _naming(unreadable):
        result = bundle_evaluation.evaluate(
            arguments.bundle,
            arguments.data,
            options,
            data_dir=data_dir,
            progress=progress,
            unreadable=_listed_in(unreadable),
        )
    if arguments.figure is not None:
        assert not isinstance(result, FoldsResult)
        charts.write_figure(arguments.figure, result)
    text = results.evaluation_text(result)
    if not isinstance(result, FoldsResult):  # LFW's folder has more in it than photos
        passed = [*passed_over(arguments.data), *unreadable]
        result, text = results.with_left_out(result, passed), results.with_passed_over(text, passed)
    console.print_result(result, arguments.json, text)
    return 0


def preflight(arguments: argparse.Namespace) -> int:
    """Predict what the Edge TPU compiler does with a file; the exit code is 1 if an operator stays on the CPU."""
    from edge_oneshot.presentation.preflight_result import preflight_text
    from edge_oneshot_export.edgetpu.compiler import check

    report = check(arguments.model)
    console.print_result(report, arguments.json, preflight_text(report))
    run = report.compiler
    return 0 if report.mapped and (run is None or (run.file and not run.parsed.cpu_ops)) else 1


def inspect(arguments: argparse.Namespace) -> int:
    """Show a bundle, or how two bundles differ."""
    from edge_oneshot_device.presentation import bundles

    result, text = bundles.inspect(arguments.bundle, arguments.other, everything=arguments.all)
    console.print_result(result, arguments.json, text)
    return 0


def keygen(arguments: argparse.Namespace) -> int:
    """Make a key pair."""
    from edge_oneshot.presentation import results
    from edge_oneshot_export.packing.signing import generate_key

    pair = generate_key(arguments.out)
    console.print_result(pair, arguments.json, results.key_pair_text(pair))
    return 0


def deploy(arguments: argparse.Namespace) -> int:
    """Build the archive for a device, and install it there if a host is given."""
    from edge_oneshot.deploying.archive import build_archive
    from edge_oneshot.deploying.options import DeployOptions
    from edge_oneshot.deploying.remote import check_host, install_on
    from edge_oneshot.presentation import results
    from edge_oneshot.presentation.progress import step_progress

    options = options_from(arguments, DeployOptions)
    out = arguments.out or Path(f"{arguments.bundle.stem}-{options.machine}-py{options.python}.tar.gz")
    with step_progress(as_json=arguments.json) as say:
        if arguments.host is not None:
            say(f"looking at {arguments.host}")
            check_host(arguments.host, options.machine, options.python)
        made = build_archive(arguments.bundle, out, options, say=say)
        if arguments.host is not None:
            say(f"installing on {arguments.host}")
            done = install_on(arguments.host, out, made.release)
    if arguments.host is None:
        console.print_result(made, arguments.json, results.archive_text(made))
    else:
        console.print_result(done, arguments.json, f"{done.output}\n{done.host}: release {done.release} is in use")
    return 0


def completion(arguments: argparse.Namespace) -> int:
    """Print a script that completes the commands and options of both programs."""
    from edge_oneshot.completion import complete_both

    made = complete_both(arguments.make_parser(), arguments.shell)
    console.print_result(made, arguments.json, made.script)
    return 0


def _data_path(data: str | None) -> str | None:
    """The folder or zip file of the data; None for a data set that goes by a name."""
    from edge_oneshot.data.loading import is_named

    return None if data is None or is_named(data) else data


def _import_tensorflow() -> None:
    """Import TensorFlow without its start-up messages, so that an error is the only line on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow enables oneDNN by default only with AVX-512; training is faster with it on other processors too
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    from edge_oneshot_export.formats.conversion import quiet
    from edge_oneshot_export.formats.keras_models import pin_settings

    pin_settings()
    with Path(os.devnull).open("w") as null, quiet(null.fileno()):
        import tensorflow  # noqa: F401 - for its side effects, once and here
    for name in ("tensorflow", "absl", "tf2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
