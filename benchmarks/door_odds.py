"""How many strangers a door is expected to let in within a year, by target rate, people enrolled and approaches.

python benchmarks/door_odds.py faces.oneshot --people 5,50,500 --strangers 2,20,200

An approach of somebody who is not enrolled is one decision, so strangers a day x 365 x the rate that is kept. The rate
is the target false accept rate as long as the bundle's calibration can keep it with so many people
(`thresholds.outlook`). It is the rate of people who come by chance, not of those who look alike or present a picture.
"""

import argparse
from pathlib import Path

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.matching.thresholds import calibration_for, outlook

DAYS = 365
TARGETS = (1e-2, 1e-3, 1e-4, 1e-5)


def odds(manifest: Manifest, target: float, people: int, strangers: float) -> tuple[float, float, bool]:
    """The expected number of strangers accepted in a year, and what the target costs.

    Args:
        manifest: The bundle's.
        target: Target false accept rate of an approach.
        people: People enrolled, with one template each.
        strangers: Approaches a day of people who are not enrolled.

    Returns:
        The number; the share of genuine attempts rejected, at least; and whether the target is kept.

    Raises:
        InputError: The bundle is uncalibrated, or keeps such a target for nobody.
    """
    found = outlook(calibration_for(manifest, manifest.default_variant, 1), manifest.embedding.metric, target, people)
    return strangers * DAYS * found.kept_far, found.frr, found.people <= found.most_people


def table(manifest: Manifest, people: list[int], strangers: list[float]) -> str:
    """The numbers as a table in Markdown; a star where the target is not kept with so many people."""
    head = [f"{one:g} strangers a day" for one in strangers]
    lines = ["| `--target-far` | people | genuine attempts rejected | " + " | ".join(head) + " |"]
    lines.append("|---" * (3 + len(strangers)) + "|")
    for target in TARGETS:
        for number in people:
            try:
                found = [odds(manifest, target, number, one) for one in strangers]
            except InputError:
                continue
            _, frr, kept = found[0]
            cells = [f"{expected:{'.0f' if expected >= 10 else '.2g'}}{'' if kept else ' *'}" for expected, *_ in found]
            lines.append(f"| {target:g} | {number} | {frr:.1%} or more | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--people", default="5,50,500")
    parser.add_argument("--strangers", default="2,20,200", help="approaches a day of people who are not enrolled")
    given = parser.parse_args()
    numbers = [int(one) for one in given.people.split(",")]
    print(table(Bundle.open(given.bundle).manifest, numbers, [float(one) for one in given.strangers.split(",")]))
