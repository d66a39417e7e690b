"""The options of an export, from the command line and from Python, and the rows of the table of variants."""

import argparse

import pytest

from edge_oneshot_device.bundle.runtime_kinds import RUNTIME_KINDS
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.options import add_options, options_from
from edge_oneshot_export.options import ExportOptions
from edge_oneshot_export.variants import VARIANTS, variant_of


def parsed(*words: str) -> ExportOptions:
    parser = argparse.ArgumentParser()
    add_options(parser, ExportOptions)
    return options_from(parser.parse_args(words), ExportOptions)


@pytest.mark.parametrize(
    ("words", "chosen", "required"),
    [
        ((), ("int8", "float32"), False),
        (("--variants", "all"), tuple(VARIANTS), False),
        (("--variants", "coral,onnx-int8"), ("coral", "onnx-int8"), True),
    ],
)
def test_variants_that_are_named_are_required(words, chosen, required):
    options = parsed(*words)
    assert (options.chosen, options.required) == (chosen, required)


def test_a_value_made_in_python_has_the_bounds_of_the_command_line():
    for make in (lambda: ExportOptions(target_far=1.5), lambda: parsed("--target-far", "1.5")):
        with pytest.raises(InputError, match=r"--target-far 1\.5: must be above 0 and below 1"):
            make()


def test_every_variant_is_found_by_its_format_and_precision_but_the_second_of_a_pair():
    found = {name: variant_of(kind.format, kind.precision).name for name, kind in VARIANTS.items()}
    assert found == {**{name: name for name in VARIANTS}, "coral": "int8", "onnx-int7": "onnx-int8"}


def test_a_variant_runs_on_the_runtimes_of_its_format():
    for kind in VARIANTS.values():
        assert kind.runtimes
        assert {RUNTIME_KINDS[runtime].format for runtime in kind.runtimes} == {kind.format}
