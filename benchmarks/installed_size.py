"""What the device's program takes on the disk: its distribution and everything that it depends on.

python benchmarks/installed_size.py
"""

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

import edge_oneshot_device

PROGRAM = "edge-oneshot-device"


def needed(name: str, found: dict[str, int] | None = None) -> dict[str, int]:
    """Give the bytes of a distribution and of all that it needs, without extras, by name; bytecode is left out."""
    found = {} if found is None else found
    one = distribution(name)
    files = [Path(str(file.locate())) for file in one.files or []]
    found[name] = sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc")
    for text in one.requires or []:
        requirement = Requirement(text)
        if requirement.name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            needed(requirement.name, found)
    return found


if __name__ == "__main__":
    sizes = needed(PROGRAM)
    # an editable installation lists none of its modules
    package = Path(edge_oneshot_device.__file__).parent
    sizes[PROGRAM] = sum(file.stat().st_size for file in package.rglob("*") if file.suffix in {".py", ".typed"})
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:7.1f} MB  {name} {distribution(name).version}")
    print(f"{sum(sizes.values()) / 1e6:7.1f} MB  in all")
