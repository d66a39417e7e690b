"""What the wheel leaves out: docstrings of what is not public; lines keep their numbers, so that a traceback fits."""

import ast
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "edge_oneshot_device"
# where the names in edge_oneshot_device.__all__ are from; the manifest is a contract
PUBLIC = {
    "__init__.py", "errors.py", "bundle/bundle.py", "bundle/manifest.py", "encoding/encoder.py", "gallery/people.py",
    "matching/decision.py", "recognition/recognizer.py",
}  # fmt: skip


def without_docstrings(source: str) -> str:
    """A module's source with empty lines in place of its docstrings."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is None:
            continue
        first = node.body[0]
        assert first.end_lineno is not None
        lines[first.lineno - 1 : first.end_lineno] = ["\n"] * (first.end_lineno - first.lineno + 1)
        if len(node.body) == 1 and not isinstance(node, ast.Module):
            lines[first.lineno - 1] = f"{' ' * first.col_offset}pass\n"
    return "".join(lines)


class LightWheel(BuildHookInterface):  # type: ignore[type-arg]
    """Runs when a wheel is built; an editable one is left as it is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put light copies in place of the modules."""
        if version == "editable":
            return
        package, copies = Path(self.root, PACKAGE), Path(tempfile.mkdtemp())
        for path in sorted(package.rglob("*.py")):
            name = path.relative_to(package).as_posix()
            if name not in PUBLIC:
                copy = copies / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(without_docstrings(path.read_text()))
                build_data["force_include"][str(copy)] = f"{PACKAGE}/{name}"
