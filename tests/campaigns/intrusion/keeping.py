"""Whether every gallery and every backup still opens with a key that exists, once the attacker's act is undone."""

import shutil
from pathlib import Path

from edge_oneshot_device import Recognizer, cli
from tests.campaigns.intrusion.commands import Expected
from tests.campaigns.intrusion.ground import VISITOR, everything, lay, remove
from tests.campaigns.intrusion.processes import once, told


def lost(place: Path, ground: Path, expected: Expected) -> list[str]:
    """What no key opens any more, of the state folder of before, the other one and the backups.

    Args:
        place: The copy of the ground after it all; the other state folder and the keys are as they are in it.
        ground: The ground.
        expected: Which backups have to open.
    """
    if not _changed(place, ground):
        return []
    trial = place.with_name(f"{place.name}-trial")
    keys = sorted(path for path in (place / "keys").rglob("*") if path.is_file())
    try:
        lay(ground, trial, None)
        found = []
        if not any(_opens(trial / "state", key, "ada") for key in keys):
            found.append("the state folder of before")
        remove(trial / "other")
        shutil.copytree(place / "other", trial / "other")  # a copy belongs to whoever tries it
        if not any(_opens(trial / "other", key, VISITOR) for key in keys):
            found.append("the other state folder")
        return found + [
            backup
            for backup in expected.backups
            if not any(
                _restores(ground, trial, place / "elsewhere" / backup, key, back=back)
                for key in keys
                for back in (False, True)
            )
        ]
    finally:
        remove(trial)


def _changed(place: Path, ground: Path) -> bool:
    """Whether the keys are others than before, or there are more backups."""
    names = [
        {path: seen[-1] for path, seen in everything(root / "keys", root).items()} | {
            path.name: None for path in (root / "elsewhere").glob("*.backup")
        }
        for root in (place, ground)
    ]  # fmt: skip
    return names[0] != names[1]


def _opens(state: Path, key: Path, person: str) -> bool:
    def there() -> bool:
        with Recognizer.open(state, key=key) as door:
            return person in [one.person for one in door.people()]

    return once(there).value is True


def _restores(ground: Path, trial: Path, backup: Path, key: Path, *, back: bool) -> bool:
    """Whether a key restores a backup, with the encoder in use or, after a rollback, with the one before."""
    lay(ground, trial, None)
    own = trial / "backup"
    shutil.copy(backup, own)
    own.chmod(0o644)
    state = ["--state", str(trial / "state"), "--key", str(trial / "keys" / "key"), "--json"]
    if back:
        once(lambda: told(lambda: cli.main(["rollback", *state])))
    words = ["restore", str(own), "--backup-key", str(key), *state]
    answer = once(lambda: told(lambda: cli.main(words)))
    return answer.value is not None and answer.value["code"] == 0
