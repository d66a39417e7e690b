r"""Compare ways to make a template: a chip alone, or the mean with its mirror image and shifts; one to three photos.

    python -m benchmarks.research.template_views faces.oneshot --data lfw-half.zip --kept FOLDER \
        --out benchmarks/results/template-views.json

Of each person in DATA at most eight photos count, so that nobody outweighs the others. Every photo is compared with
every other one, the first of both as the template. Views are embedded apart and averaged, and the mean is brought to
length 1. Differences to the chip alone are paired (`verification.rate_changes`). Photos are joined as the product does
it, by the best score or the mean score, for people with at least four photos; strangers are all others.
"""

import json
import sys

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.research.face_arguments import face_parser, write_results
from benchmarks.research.face_looks import embedded, look
from edge_oneshot_device import Bundle, Encoder
from edge_oneshot_device.formatting import align
from edge_oneshot_export.judging.bounds import mean_interval
from edge_oneshot_export.judging.metrics import threshold_at
from edge_oneshot_export.judging.protocols import Pairs, gallery_trials
from edge_oneshot_export.judging.verification import FALSE_POSITIVE_RATES, Linearised, rate_changes

PHOTOS = 8  # of a person
SHIFTS = ((3, 0), (-3, 0), (0, 3), (0, -3))  # pixels
COUNTS = (1, 2, 3)  # photos of a template
PROBES = 5  # of a person, at most
COMPARISONS = 6_000_000
KEPT = 0.05  # share of the impostor pairs, the highest; the others decide nothing at these rates


def views(chips: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Each view of chips (n, h, w, 3); what a shift uncovers repeats the edge."""
    shown = {"chip": chips, "mirror": chips[:, :, ::-1]}
    height, width = chips.shape[1:3]
    for right, down in SHIFTS:
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        shown[f"shift {right} {down}"] = chips[:, rows][:, :, columns]
    return shown


def mean_of(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The mean of embeddings (n, d), of length 1."""
    total = np.sum(parts, axis=0)
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def scored(templates: NDArray[np.float32], probes: NDArray[np.float32], labels: NDArray[np.int64]) -> Pairs:
    """Every pair of photos, the earlier one as the template."""
    alike = templates @ probes.T
    one, other = np.triu_indices(len(labels), 1)
    values = alike[one, other]
    same = labels[one] == labels[other]
    pairs = np.stack([one, other], axis=1)
    floor = np.quantile(values[~same], 1.0 - KEPT)
    top, rest = ~same & (values >= floor), np.flatnonzero(~same & (values < floor))
    sample = np.random.default_rng(0).permutation(rest)[: int(top.sum())]
    kept = np.concatenate([np.flatnonzero(top), sample])
    weights = np.concatenate([np.ones(int(top.sum())), np.full(len(sample), len(rest) / len(sample))])
    return Pairs(values[same], values[kept], pairs[same], pairs[kept], weights)


def by_views(parts: dict[str, NDArray[np.float32]], labels: NDArray[np.int64]) -> list[dict[str, object]]:
    plain, mirrored = parts["chip"], mean_of([parts["chip"], parts["mirror"]])
    shifted = mean_of([rows for name, rows in parts.items() if name != "mirror"])
    every = mean_of(list(parts.values()))
    ways = {
        ("chip", "chip"): (plain, plain),
        ("chip and mirror", "chip"): (mirrored, plain),
        ("chip and shifts", "chip"): (shifted, plain),
        ("chip, mirror, shifts", "chip"): (every, plain),
        ("chip and mirror", "chip and mirror"): (mirrored, mirrored),
        ("chip, mirror, shifts", "chip, mirror, shifts"): (every, every),
    }
    found, reference = [], None
    for (template, probe), rows in ways.items():
        linear = Linearised.of(scored(*rows, labels), labels)
        reference = reference or linear
        named = dict(zip(FALSE_POSITIVE_RATES, linear.rates[1:].tolist(), strict=True))
        changes = {} if linear is reference else msgspec.to_builtins(rate_changes(reference, linear))
        found.append({"template": template, "probe": probe, "tpr_at_fpr": named, "changes": changes})
        print(json.dumps(found[-1]), flush=True)
    return found


def by_photos(rows: dict[str, NDArray[np.float32]], labels: NDArray[np.int64], seed: int) -> list[dict[str, object]]:
    order = np.argsort(labels, kind="stable")
    everybody = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    people = [own for own in everybody if len(own) > max(COUNTS)]
    strangers = [own for own in everybody if len(own) <= max(COUNTS)]
    found = []
    for views_of, (templates, probes) in rows.items():
        # templates and probes are different rows: the probes lie behind the templates
        both = np.concatenate([templates, probes])
        for count in COUNTS:
            rng = np.random.default_rng(seed)
            drawn = [rng.permutation(own)[: max(COUNTS) + PROBES] for own in people]
            own = [np.append(one[:count], one[max(COUNTS) :] + len(templates)) for one in drawn]
            apart = [one + len(templates) for one in strangers]
            for rule, trials in _trials(both, own, count, apart).items():
                accepts = {}
                for name, rate in FALSE_POSITIVE_RATES.items():
                    taken = (trials.genuine >= threshold_at(trials.impostor, rate)).astype(np.float64)
                    accepts[name] = (float(taken.mean()), mean_interval(taken, trials.known.owners))
                one = {"views": views_of, "photos": count, "rule": rule, "people": len(people), "accepted": accepts}
                found.append(one | {"impostor": len(trials.impostor)})
                print(json.dumps(found[-1]), flush=True)
    return found


class _InOrder:
    """A generator that leaves every order as it is: the draw was made before."""

    def permutation(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        return values


def _trials(rows, own, count, apart):
    return gallery_trials(rows, own, count, "cosine", _InOrder(), comparisons=COMPARISONS, strangers=apart)


def main() -> int:
    arguments = face_parser(__doc__, kept=True, seed="the choice of photos").parse_args()
    bundle = Bundle.open(arguments.bundle)
    encoder, rng = Encoder.open(bundle), np.random.default_rng(arguments.seed)
    looks = look(bundle, arguments.data, arguments.kept)
    usable = np.flatnonzero(looks.found)
    drawn = [rng.permutation(usable[looks.labels[usable] == one])[:PHOTOS] for one in np.unique(looks.labels)]
    chosen = np.sort(np.concatenate(drawn))
    labels = np.unique(looks.labels[chosen], return_inverse=True)[1]
    whole = np.zeros((len(looks.found), encoder.embedding.size), np.float32)
    whole[looks.found] = embedded(encoder, looks.chips[looks.found], arguments.kept, bundle)
    shown = views(looks.chips[chosen])
    parts = {"chip": whole[chosen]}
    for name, chips in shown.items():
        if name != "chip":
            parts[name] = embedded(encoder, chips, arguments.kept, bundle)
    plain, mirrored = parts["chip"], mean_of([parts["chip"], parts["mirror"]])
    content = {
        "command": "python -m benchmarks.research.template_views faces.oneshot --data lfw-half.zip --kept FOLDER",
        "fingerprint": encoder.fingerprint,
        "variant": encoder.variant,
        "photos": len(chosen),
        "people": int(labels.max()) + 1,
        "views": by_views(parts, labels),
        "templates": by_photos({"chip": (plain, plain), "chip and mirror": (mirrored, plain)}, labels, arguments.seed),
    }
    write_results(arguments.out, content)
    rows = [
        (one["template"], one["probe"], *(f"{rate:.2%}" for rate in one["tpr_at_fpr"].values()))
        for one in content["views"]
    ]
    print(align([("template", "probe", *FALSE_POSITIVE_RATES), *rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
