"""The JSON schema of manifest.json, made from its types: ``python -m edge_oneshot_device.bundle.schema`` prints it.

It says what a manifest looks like. What its parts have to say of each other (digests,
fingerprints, shapes) is checked by `decode_manifest` alone.
"""

import inspect
import json
from typing import Any

import msgspec

from edge_oneshot_device.bundle.manifest import FORMAT, Manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """The schema, as plain data."""
    schema = msgspec.json.schema(Manifest)
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return {"$schema": _DIALECT, "title": f"manifest.json of a .oneshot bundle, format {FORMAT}", **schema}


def main() -> None:
    """Print the schema."""
    print(json.dumps(manifest_schema(), indent=1))


if __name__ == "__main__":
    main()
