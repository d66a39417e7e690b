"""The report: one self-contained HTML page on a run, its bundle, and a session on the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot.report.terms import DRAWINGS, UTTERANCES, Terms
from edge_oneshot_device.bundle.drift_section import Drift
from edge_oneshot_device.bundle.manifest import Calibration, Metric
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.files import write_atomically
from edge_oneshot_device.matching.thresholds import threshold_for
from edge_oneshot_device.measuring.bench import BenchResult
from edge_oneshot_device.outputs import check_output
from edge_oneshot_export.judging.evaluation import OneShotResult, VerificationResult
from edge_oneshot_export.packing.packer import ExportReport, LeftOut
from edge_oneshot_export.variants import VARIANTS

if TYPE_CHECKING:
    from edge_oneshot.training.runs import HistoryEntry

_PROTOCOLS: Final = {
    "lake": "The 20 official runs within alphabets",
    "within-alphabet": "Within one {terms.group}, two {terms.maker}s",
    "random": "Among all held-out {terms.identity}s",
}


@dataclass(frozen=True, slots=True)
class VariantRow:
    """Measurements of one variant of the bundle, through its runtime.

    Attributes:
        bytes: Size of the model file.
        drift: Difference from the Keras encoder, on held-out images.
        accuracy: On the headline's one-shot tasks.
        latency: Of one embedding.
    """

    variant: str
    runtime: str
    bytes: int
    drift: Drift
    accuracy: OneShotResult
    latency: BenchResult


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """Embeddings projected to a plane.

    Attributes:
        images: uint8 (n, h, w, c).
        labels: int64 (n,), positions in `names`.
        names: Name of each label.
        points: float64 (n, 2).
        method: The projection, in words.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    points: NDArray[np.float64]
    method: str


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A one-shot task and the encoder's answer.

    Attributes:
        title: Names the task.
        support: uint8 (n, h, w, c), one image per identity.
        query: uint8 (h, w, c).
        answer: Position in `support` of the query's identity.
        scores: float32 (n,), of the query against each of `support`.
        degrees: float64 (n,), the scores as degrees of similarity, 0..1.
    """

    title: str
    support: NDArray[np.uint8]
    query: NDArray[np.uint8]
    answer: int
    scores: NDArray[np.float32]
    degrees: NDArray[np.float64]

    @property
    def nearest(self) -> int:
        """Position in `support` of the encoder's answer."""
        return int(self.scores.argmax())


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Verification scores with one template per person.

    Attributes:
        genuine: float32 (g,).
        impostor: float32 (m,).
        calibration: Gives the threshold and the degrees of similarity.
        metric: How embeddings are compared.
        target_far: Target FAR of the threshold.
        verification: Error rates on the same data.
        data: Source of the scores, in words.
    """

    genuine: NDArray[np.float32]
    impostor: NDArray[np.float32]
    calibration: Calibration
    metric: Metric
    target_far: float
    verification: VerificationResult
    data: str


@dataclass(frozen=True, slots=True)
class CommandResult:
    """A command on the device and its outcome.

    Attributes:
        command: As typed.
        exit_code: As the program returned it.
        expected: The exit code if nothing goes wrong.
        output: What it printed, stderr included.
    """

    command: str
    exit_code: int
    expected: int
    output: str


@dataclass(frozen=True, slots=True)
class SessionStep:
    """One command of the session on the device, as the report shows it.

    Attributes:
        caption: What it shows, in a few words.
        result: The command and its outcome.
        image: A PNG of what it was given, if anything.
        sound: The WAV that it was given, if any.
    """

    caption: str
    result: CommandResult
    image: bytes | None
    sound: bytes | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ReportData:
    """The content of the report. The page leaves out what is empty or None.

    Attributes:
        title: The page's heading.
        summary: One line that says what the page is about.
        history: The checkpoints of the training, oldest first.
        accuracy: One-shot results of the headline variant, by protocol and rising N.
        accuracy_data: Source of these results, in words.
        accuracy_command: The command that repeats them.
        embedding_map: Embeddings of the headline variant.
        tasks: One-shot tasks with the encoder's answers.
        scores: Genuine and impostor scores of the headline variant.
        variants: One row per variant; the first is the headline variant.
        drift: Name and drift of each variant whose drift is known.
        left_out: Variants that failed their quality gate.
        session: Commands on the device and their output.
        made: How the report was made, as pairs of a name and a value.
        terms: What the page calls the data.
    """

    title: str
    summary: str
    history: tuple["HistoryEntry", ...] = ()
    accuracy: tuple[OneShotResult, ...] = ()
    accuracy_data: str = ""
    accuracy_command: str = ""
    embedding_map: EmbeddingMap | None = None
    tasks: tuple[Task, ...] = ()
    scores: Scores | None = None
    variants: tuple[VariantRow, ...] = ()
    drift: tuple[tuple[str, Drift], ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    session: tuple[SessionStep, ...] = ()
    made: tuple[tuple[str, str], ...] = ()
    terms: Terms = DRAWINGS


def write_report(data: ReportData, path: Path) -> None:
    """Write the report; an existing file is replaced when the new one is complete.

    Args:
        data: The content.
        path: The file.

    Raises:
        InputError: Reason ``bad_output``: the file may not be replaced.
        MachineError: It cannot be written.
    """
    content = render(data).encode(errors="backslashreplace")  # names that are not UTF-8 are escaped, as on a terminal
    write_atomically(path, content, check=lambda: check_output(path))


def require_page(path: Path) -> None:
    """Check that a page can be written to a path.

    Raises:
        InputError: Reason ``bad_report``: another suffix than .html; ``bad_output``: the file may not be replaced.
    """
    if path.suffix.lower() != ".html":
        raise InputError(f"{path}: a report is a page; name it .html", reason="bad_report")
    check_output(path)


def write_drift_report(export: ExportReport, path: Path) -> None:
    """Write a page with the drift of each variant of a bundle from the float model.

    Args:
        export: The result of the export.
        path: The file, ``NAME.html``.

    Raises:
        InputError: As for `require_page`.
        MachineError: It cannot be written.
    """
    require_page(path)
    manifest = export.manifest
    known = tuple((variant.name, variant.drift) for variant in manifest.variants if variant.drift is not None)
    provenance = manifest.provenance
    data = ReportData(
        title=f"Quantization error of the variants of {manifest.name}",
        summary=f"{export.path.name}, {manifest.created}: {len(manifest.variants)} variants, "
        f"calibrated on {manifest.calibration[0].data}.",
        drift=known,
        left_out=export.left_out,
        made=(
            ("versions", ", ".join(f"{name} {version}" for name, version in provenance.versions.items())),
            ("commit", provenance.commit or "not a checkout"),
            *((f"fingerprint {variant.name}", variant.fingerprint) for variant in manifest.variants),
        ),
        terms=DRAWINGS if manifest.input.audio is None else UTTERANCES,
    )
    write_report(data, path)


def render(data: ReportData) -> str:
    """The report as HTML, without scripts and without anything that is loaded from elsewhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from edge_oneshot.report import drift_figures, figures

    environment = Environment(
        loader=PackageLoader("edge_oneshot.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "interval": interval, "kilobytes": kilobytes, "ms": milliseconds,
        "picture": figures.spectrogram_uri if data.terms.spoken else figures.picture_uri,
        "png": figures.data_uri, "wav": figures.sound_uri,
    }  # fmt: skip
    scored = data.scores
    return environment.get_template("report.html.j2").render(
        data=data,
        figures=figures,
        drift_figures=drift_figures,
        protocols=[
            (_PROTOCOLS.get(name, name).format(terms=data.terms), results)
            for name, results in by_protocol(data.accuracy)
        ],
        slower=slower_than_float(data.variants),
        threshold=scored and threshold_for(scored.calibration, scored.metric, scored.target_far).value,
    )


def slower_than_float(rows: Sequence[VariantRow]) -> list[tuple[VariantRow, VariantRow]]:
    """Variants that are more than 5 % slower than the float32 variant of their format, each with that variant."""
    kinds = [VARIANTS[row.variant] for row in rows]
    exact = {kind.format: row for kind, row in zip(kinds, rows, strict=True) if kind.precision == "float32"}
    pairs = ((row, exact.get(kind.format)) for kind, row in zip(kinds, rows, strict=True))
    return [(row, one) for row, one in pairs if one and row.latency.median_ms > 1.05 * one.latency.median_ms]


def by_protocol(results: Sequence[OneShotResult]) -> list[tuple[str, list[OneShotResult]]]:
    """The results of each protocol, in the order of their first result."""
    names = dict.fromkeys(result.protocol for result in results)
    return [(name, [result for result in results if result.protocol == name]) for name in names]


def percent(rate: float, decimals: int = 1) -> str:
    """A rate as text: 0.9312 is ``93.1 %``, with a no-break space.

    Args:
        rate: A share, 0..1.
        decimals: Digits after the point.
    """
    return f"{100.0 * rate:.{decimals}f}\N{NO-BREAK SPACE}%"


def interval(low_high: tuple[float, float], decimals: int = 1) -> str:
    """An interval of rates as text: ``92.0 to 94.1 %``.

    Args:
        low_high: Both ends, 0..1.
        decimals: Digits after the point.
    """
    low, high = low_high
    return f"{100.0 * low:.{decimals}f} to {percent(high, decimals)}"


def kilobytes(count: int) -> str:
    """A size as text, in units of 1,000 bytes."""
    return f"{count / 1000:,.0f}\N{NO-BREAK SPACE}KB"


def milliseconds(value: float) -> str:
    """A duration as text with about three digits: ``0.200 ms``, ``12.3 ms``, ``1,234 ms``."""
    decimals = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}\N{NO-BREAK SPACE}ms"
