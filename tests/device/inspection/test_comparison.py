"""Two bundles beside each other."""

import re

import msgspec

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.inspection.bundle_comparison import Difference, compare
from edge_oneshot_device.presentation.bundles import describe, describe_comparison, inspect


def differences(one, other) -> dict[str, tuple]:
    return {found.field: (found.a, found.b) for found in compare(Bundle.open(one), Bundle.open(other)).differences}


def rows(one, other) -> dict[str, list[str]]:
    """The table, by its first column."""
    _, text = inspect(one, other)
    table = [line.split("  ") for line in text.split("\n\n")[0].splitlines()]
    return {first: [cell.strip() for cell in cells if cell] for first, *cells in table}


def test_one_bundle_is_shown_as_ever_and_itself_beside_itself_is_the_same(make_bundle):
    path = make_bundle()
    summary, text = inspect(path)
    assert summary.name == "tiny"
    assert text.startswith("bundle ")
    comparison, text = inspect(path, path)
    assert (comparison.same, comparison.differences) == (True, [])
    assert text == f"{path} and {path} are identical"


def test_only_what_differs_is_listed(make_bundle):
    one, other = make_bundle(), make_bundle(name="other", seed=7)
    found = differences(one, other)
    assert found.keys() == {"name", "bytes", "sha256", "provenance.seed"}
    assert found["provenance.seed"] == (0, 7)
    assert found["bytes"] == (one.stat().st_size, other.stat().st_size)


def test_a_calibration_or_a_variant_that_one_lacks_is_one_difference(make_bundle):
    whole = make_bundle()
    fewer = differences(whole, make_bundle(name="fewer", counts=(1, 5)))
    assert {field for field in fewer if field.startswith("calibration")} == {
        f"calibration.{variant}.best.3" for variant in ("int8", "float32", "onnx-float32")
    }
    assert fewer["calibration.int8.best.3"][0]["frr"] == 0.001
    assert fewer["calibration.int8.best.3"][1] is None
    without = differences(make_bundle(name="without", variants=("int8", "float32")), whole)
    assert {field for field in without if field.startswith("files")} == {"files.onnx-float32"}
    assert without["files.onnx-float32"][0] is None


def test_the_table_has_a_line_a_threshold_and_a_line_a_drift(make_bundle):
    def drift(plain: dict) -> None:
        plain["variants"][0]["drift"]["cosine_mean"] = 0.5

    def threshold(plain: dict) -> None:
        plain["calibration"][0]["points"][-1]["threshold"] += 0.125
        plain["calibration"][0]["data"] = "other people"

    plain = make_bundle()
    table = rows(plain, make_bundle(name="drifted", change=drift))
    assert table["drift of int8"] == [
        "cosine 1.0000, EER +0.00 (-1.00 to +1.00)", "cosine 0.5000, EER +0.00 (-1.00 to +1.00)"
    ]  # fmt: skip
    assert not any(first.startswith(("files", "threshold")) for first in table)
    table = rows(plain, make_bundle(name="lax", change=threshold))
    assert table["threshold of int8, best of 1"] == [
        "0.8000 for FAR 1 %, FRR 0.1 %, 80 people", "0.9250 for FAR 1 %, FRR 0.1 %, 80 people"
    ]  # fmt: skip
    assert table["calibrated on"] == ["made up for tests", "other people, made up for tests"]
    assert not any(first.startswith(("calibration", "drift")) for first in table)
    uncalibrated = rows(plain, make_bundle(name="uncalibrated", calibrated=False))
    assert uncalibrated["threshold of float32, best of 3"][1] == "-"
    assert uncalibrated["calibrated on"][1] == "none"


def test_of_long_lists_what_is_in_one_alone_is_shown(make_bundle):
    def with_groups(*names: str):
        return lambda plain: plain["provenance"].update(trained_on=list(names))

    many = [f"alphabet{number}" for number in range(30)]
    one = make_bundle(name="one", change=with_groups(*many))
    other = make_bundle(name="other", change=with_groups(*many[:-1], "Greek"))
    assert rows(one, other)["provenance.trained_on"] == ["30, only here: alphabet29", "30, only here: Greek"]


def test_what_would_steer_a_terminal_is_spelt_out(make_bundle):
    def escape(plain: dict) -> None:
        plain["provenance"]["data"] = "\x1b[2Jdrawn\nfrom a seed\u202e"

    path = make_bundle(name="escapes", change=escape)
    for text in (inspect(path)[1], inspect(make_bundle(), path)[1]):
        assert text.replace("\n", "").isprintable()
        assert "\\x1b[2Jdrawn\\nfrom a seed\\u202e" in text


def test_a_bundle_with_every_variant_and_long_names_fits_one_screen(make_bundle):
    summary, _ = inspect(make_bundle())
    names = ("float32", "float16", "dynamic", "int8", "coral", "onnx-float32", "onnx-float16", "onnx-int8", "onnx-int7")
    file = msgspec.structs.replace(summary.files[0], bytes=99_999_999, compiled="models/x.tflite")
    full = msgspec.structs.replace(
        summary,
        name="a name of a bundle that somebody made as long as it goes",
        signed_by="0" * 64,
        variants=list(names),
        files=[msgspec.structs.replace(file, variant=name) for name in names],
    )
    lines = describe(full).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(name) for line in lines) for name in names)


def test_the_default_variant_is_named_and_its_calibration_shown(make_bundle):
    path = make_bundle(variants=("float32", "int8"))
    summary, text = inspect(path)
    assert summary.default_variant == "float32"
    assert "default variant float32" in text
    assert "int8     best of" not in text
    assert re.search(r"^default +float32, the first variant$", inspect(path, everything=True)[1], re.MULTILINE)
    other = make_bundle(name="other", variants=("int8", "float32"))
    assert differences(path, other)["default_variant"] == ("float32", "int8")


def test_templates_carry_over_where_fingerprints_are_the_same(make_bundle):
    def rename(plain: dict) -> None:
        for variant in plain["variants"]:
            if variant["name"] == "int8":
                variant["name"] = "coral"
        plain["self_test"]["outputs"]["coral"] = plain["self_test"]["outputs"].pop("int8")
        if isinstance(plain["self_test"]["tolerance"], dict):
            plain["self_test"]["tolerance"]["coral"] = plain["self_test"]["tolerance"].pop("int8")
        for calibration in plain["calibration"]:
            calibration["variant"] = calibration["variant"].replace("int8", "coral")

    one = make_bundle(variants=("int8", "float32"))
    renamed = make_bundle(name="renamed", variants=("int8", "float32"), change=rename)
    comparison, text = inspect(one, renamed)
    assert comparison.templates == {"int8": ["coral"], "float32": ["float32"]}
    assert "templates of A can be used with B: int8 (as coral), float32" in text
    other = make_bundle(name="other", variants=("float32",))
    assert inspect(one, other)[1].endswith(
        "templates of A can be used with B: float32\n"
        "templates of A cannot be used with B, so everybody has to enrol again: int8"
    )
    assert compare(Bundle.open(one), Bundle.open(other)).templates == {"int8": [], "float32": ["float32"]}
    assert describe_comparison(comparison, "a", "b").splitlines()[0].split() == ["A:", "a", "B:", "b"]
    assert isinstance(comparison.differences[0], Difference)
