"""What each command does: it calls the library and prints the result. It returns the exit code.

Each command imports numpy, Pillow and the runtimes itself, so that --help is quick.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_oneshot_device import console
from edge_oneshot_device.errors import InputError, MachineError
from edge_oneshot_device.installation.options import InstallOptions
from edge_oneshot_device.measuring.options import BenchOptions
from edge_oneshot_device.options import options_from
from edge_oneshot_device.presentation import bench_results, results
from edge_oneshot_device.presentation.lookalikes import look_alikes_text
from edge_oneshot_device.recognition.options import LookalikeOptions

if TYPE_CHECKING:
    from edge_oneshot_device.gallery.access import Access
    from edge_oneshot_device.matching.decision import Decision
    from edge_oneshot_device.recognition.recognizer import Recognizer

REJECTED = 1
ALIKE = 1
NOT_COMPARABLE = 1


def init(arguments: argparse.Namespace) -> int:
    """Check a bundle and put it in use."""
    from edge_oneshot_device.installation.installer import install
    from edge_oneshot_device.outputs import check_new_key
    from edge_oneshot_device.state.folder import state_dir

    options = options_from(arguments, InstallOptions)
    if arguments.key is not None:
        check_new_key(arguments.key, state_dir(arguments.state))
    installation = install(arguments.bundle, arguments.state, options, key=arguments.key)
    console.print_result(installation, arguments.json, results.installation_text(installation))
    return 0


def rollback(arguments: argparse.Namespace) -> int:
    """Put in use what was in use before the last init."""
    from edge_oneshot_device.installation.installer import rollback as go_back

    installation = go_back(arguments.state, key=arguments.key)
    console.print_result(installation, arguments.json, results.installation_text(installation))
    return 0


def enrol(arguments: argparse.Namespace) -> int:
    """Enrol a person, or everybody in a folder."""
    if arguments.folder is not None:
        if arguments.even_if_alike:
            raise InputError("--even-if-alike goes with one PERSON and their images", reason="wrong_use")
        return _enrol_folder(arguments)
    if arguments.person is None:
        raise InputError("give a PERSON and their images or recordings, or --folder DIR", reason="wrong_use")
    access = _access(arguments)
    with _recognizer(arguments) as recognizer:
        enrolment = recognizer.enrol(
            arguments.person,
            *_sources(recognizer, arguments.files, arguments.microphone),
            add=arguments.add,
            replace=arguments.replace,
            access=access,
            even_if_alike=arguments.even_if_alike,
        )
    console.print_result(enrolment, arguments.json, results.enrolment_text(enrolment))
    return 0


def access(arguments: argparse.Namespace) -> int:
    """Change when a person may come in."""
    from edge_oneshot_device.gallery.access import ALWAYS

    named = _access(arguments)
    if arguments.always and named is not None:
        raise InputError("--always removes all limits: give it alone, then set other limits", reason="wrong_use")
    if not arguments.always and named is None:
        message = "give what to change (--valid-from, --valid-until, --hours), or --always"
        raise InputError(message, reason="wrong_use")
    wanted = ALWAYS if named is None else named
    with _recognizer(arguments) as recognizer:
        person = recognizer.gallery.set_access(arguments.person, wanted)
    console.print_result(person, arguments.json, results.people_text([person]))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Decide whether an image or recording is of a person (1:1)."""
    with _recognizer(arguments) as recognizer:
        decision = recognizer.verify(arguments.person, _source(recognizer, arguments))
    return _print_decision(decision, "rejected", arguments.json, arguments.scores)


def identify(arguments: argparse.Namespace) -> int:
    """Decide of whom an image or recording is (1:N)."""
    with _recognizer(arguments) as recognizer:
        decision = recognizer.identify(_source(recognizer, arguments))
    return _print_decision(decision, "unknown", arguments.json, arguments.scores)


def people(arguments: argparse.Namespace) -> int:
    """List the people enrolled, write them to a file, or read them from one."""
    if arguments.action is not None:
        return _transfer(arguments)
    with _recognizer(arguments) as recognizer:
        listed = recognizer.people()
    console.print_result(listed, arguments.json, results.people_text(listed))
    return 0


def lookalikes(arguments: argparse.Namespace) -> int:
    """List the people enrolled who may be accepted as each other."""
    options = options_from(arguments, LookalikeOptions)
    with _recognizer(arguments) as recognizer, console.progress("pairs compared") as report:
        found = recognizer.look_alikes(options.limit, report)
    console.print_result(found, arguments.json, look_alikes_text(found))
    return ALIKE if found.count else 0


def forget(arguments: argparse.Namespace) -> int:
    """Delete a person."""
    with _recognizer(arguments) as recognizer:
        forgotten = recognizer.forget(arguments.person)
    console.print_result(forgotten, arguments.json, results.enrolment_text(forgotten))
    return 0


def unlock(arguments: argparse.Namespace) -> int:
    """Let a person verify again after too many failures."""
    with _recognizer(arguments) as recognizer:
        unlocked = recognizer.unlock(arguments.person)
    console.print_result(unlocked, arguments.json, results.unlocked_text(unlocked))
    return 0


def pin(arguments: argparse.Namespace) -> int:
    """Set a person's PIN, or take it away."""
    from edge_oneshot_device.door.pins import set_pin

    wanted = None if arguments.remove else console.read_secret("PIN")
    with _recognizer(arguments) as recognizer:
        change = set_pin(recognizer.gallery, arguments.person, wanted)
    console.print_result(change, arguments.json, results.pin_text(change))
    return 0


def audit(arguments: argparse.Namespace) -> int:
    """Show the audit trail, check it, or delete old rows."""
    from edge_oneshot_device.gallery import audit_trail

    if arguments.against is not None and not arguments.check:
        raise InputError("--against needs --check: give both", reason="wrong_use")
    with _recognizer(arguments) as recognizer:
        gallery = recognizer.gallery
        if arguments.check:
            report = audit_trail.check(gallery, arguments.against)
            console.print_result(report, arguments.json, results.audit_text(report))
        elif arguments.head:
            head = audit_trail.head(gallery)
            console.print_result(head, arguments.json, str(head))
        elif arguments.keep_days is not None:
            pruned = audit_trail.prune(gallery, arguments.keep_days)
            console.print_result(pruned, arguments.json, results.pruned_text(pruned))
        elif arguments.export:
            for entry in audit_trail.entries(gallery):
                console.print_result(entry, True, "")
        else:
            last = audit_trail.last(gallery, arguments.last)
            console.print_result(last, arguments.json, results.entries_text(last))
    return 0


def backup(arguments: argparse.Namespace) -> int:
    """Copy the gallery."""
    from edge_oneshot_device.gallery.transfer import back_up

    with _recognizer(arguments) as recognizer:
        made = back_up(recognizer.gallery, Path(arguments.file))
    console.print_result(made, arguments.json, results.backup_text(made))
    return 0


def restore(arguments: argparse.Namespace) -> int:
    """Replace the gallery with a backup."""
    from edge_oneshot_device.gallery.keys import KeySource
    from edge_oneshot_device.gallery.transfer import restore as put_back

    key = None if arguments.backup_key is None else KeySource(Path(arguments.backup_key))
    with _recognizer(arguments) as recognizer:
        restored = put_back(recognizer.gallery, Path(arguments.file), key)
    console.print_result(restored, arguments.json, results.restored_text(restored))
    return 0


def rotate_key(arguments: argparse.Namespace) -> int:
    """Seal the gallery with a new key, or delete former keys."""
    from edge_oneshot_device.gallery.rotation import drop_former
    from edge_oneshot_device.gallery.rotation import rotate_key as rotate
    from edge_oneshot_device.outputs import check_new_key

    if arguments.drop_former:
        with _recognizer(arguments) as recognizer:
            dropped = drop_former(recognizer.gallery)
        console.print_result(dropped, arguments.json, results.dropped_text(dropped))
        return 0
    with _recognizer(arguments) as recognizer:
        if arguments.new_key is not None:
            check_new_key(arguments.new_key, recognizer.gallery.path.parent)
        rotation = rotate(recognizer.gallery, None if arguments.new_key is None else Path(arguments.new_key))
    console.print_result(rotation, arguments.json, results.rotation_text(rotation))
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Check everything that the door needs."""
    from edge_oneshot_device.diagnostics.doctor import examine
    from edge_oneshot_device.diagnostics.door_check import check_door
    from edge_oneshot_device.door.config_file import read_config

    if arguments.config is None:
        diagnosis = examine(arguments.state, arguments.key)
    else:
        diagnosis = check_door(read_config(arguments.config), arguments.state, arguments.key)
    console.print_result(diagnosis, arguments.json, results.diagnosis_text(diagnosis))
    return diagnosis.exit_code


def bench(arguments: argparse.Namespace) -> int:
    """Measure the latency of a bundle, or compare two runs."""
    from edge_oneshot_device.bundle.bundle import Bundle
    from edge_oneshot_device.encoding.options import choose_variant
    from edge_oneshot_device.encoding.trial import try_variant
    from edge_oneshot_device.measuring.bench import bench as measure
    from edge_oneshot_device.measuring.bench_comparison import compare
    from edge_oneshot_device.state.folder import writable_folder

    options = options_from(arguments, BenchOptions)
    match arguments.what:
        case ["compare", first, second]:
            comparison = compare(Path(first), Path(second))
            console.print_result(comparison, arguments.json, bench_results.comparison_text(comparison))
            return 0 if comparison.comparable else NOT_COMPARABLE
        case [path] if path != "compare":
            bundle = Bundle.open(path)
        case _:
            raise InputError("give one bundle, or compare A.json B.json", reason="wrong_use")
    try_variant(bundle, choose_variant(bundle.manifest, options.variant), options.runtime)
    result = measure(bundle, options, folder=writable_folder())
    console.print_result(result, arguments.json, bench_results.bench_text(result))
    return 0


def inspect(arguments: argparse.Namespace) -> int:
    """Show what a bundle holds, or what two bundles differ in."""
    from edge_oneshot_device.presentation.bundles import inspect as look

    result, text = look(arguments.bundle, arguments.other, everything=arguments.all)
    console.print_result(result, arguments.json, text)
    return 0


def _recognizer(arguments: argparse.Namespace) -> "Recognizer":
    from edge_oneshot_device.recognition.recognizer import Recognizer

    return Recognizer.open(arguments.state, key=arguments.key)


def _source(recognizer: "Recognizer", arguments: argparse.Namespace) -> "str | bytes":
    """The file that the user named, or what is said into the microphone now."""
    files = [] if arguments.file is None else [arguments.file]
    return _sources(recognizer, files, arguments.microphone)[0]


def _sources(recognizer: "Recognizer", files: list[str], microphone: str | None) -> Sequence[str | bytes]:
    from edge_oneshot_device.recognition.speaking import record

    if bool(files) == (microphone is not None):
        raise InputError("give either a file, or --microphone with a bundle of speech", reason="wrong_use")
    return files if microphone is None else [record(recognizer.encoder, microphone, console.ask_to_speak)]


def _access(arguments: argparse.Namespace) -> "Access | None":
    from edge_oneshot_device.gallery.access import ALWAYS, parse_access

    wanted = parse_access(arguments.valid_from, arguments.valid_until, arguments.hours)
    return None if wanted == ALWAYS else wanted


def _enrol_folder(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.recognition.folder_enrolment import enrol_folder

    if arguments.person is not None:
        message = f"--folder holds the people and their files: leave out {arguments.person}"
        raise InputError(message, reason="wrong_use")
    if arguments.add or arguments.replace:
        message = "--folder enrols new people only: --add and --replace go with one PERSON and their images"
        raise InputError(message, reason="wrong_use")
    access = _access(arguments)
    with _recognizer(arguments) as recognizer, console.progress("enrolled") as report:
        staff = enrol_folder(recognizer, arguments.folder, report, access=access)
    console.print_result(staff, arguments.json, results.folder_enrolment_text(staff))
    return REJECTED if staff.refused else 0


def _transfer(arguments: argparse.Namespace) -> int:
    from edge_oneshot_device.gallery.keys import KeySource, create_key, read_key
    from edge_oneshot_device.gallery.transfer import export_people, import_people
    from edge_oneshot_device.outputs import check_new_key, check_output

    if arguments.file is None:
        raise InputError(f"people {arguments.action} needs the name of a file", reason="wrong_use")
    with _recognizer(arguments) as recognizer:
        file, seal = Path(arguments.file), recognizer.gallery.keyring.vault.key
        if arguments.transfer_key is not None:
            if arguments.action == "export" and not Path(arguments.transfer_key).exists():
                # checked before a key is created in vain, or under the name of the exported file
                gallery, made = recognizer.gallery, arguments.transfer_key
                check_new_key(made, gallery.path.parent)
                check_output(file, inputs=[made], state=gallery.path.parent, key=gallery.source.path)
                create_key(Path(arguments.transfer_key))
            seal = read_key(KeySource(Path(arguments.transfer_key)))
        if arguments.action == "export":
            moved = export_people(recognizer.gallery, file, seal)
        else:
            moved = import_people(recognizer.gallery, file, seal, recognizer.most_templates)
    console.print_result(moved, arguments.json, results.transfer_text(moved, arguments.action))
    return 0


def _print_decision(decision: "Decision", refusal: str, as_json: bool, scores: bool) -> int:
    from edge_oneshot_device.matching.decision import PublicDecision

    text = ""
    if not as_json:
        text = results.decision_text(decision, refusal, scores)
    console.print_result(decision if scores else PublicDecision.of(decision), as_json, text)
    if decision.fault is not None:
        raise MachineError(decision.fault, reason=decision.reason)
    return 0 if decision.accepted else REJECTED
