"""The JSON schema of manifest.json, generated from its types; `make schema` writes it to docs/reference/.

The schema describes the form of a manifest. Whether its parts agree with each other (digests, fingerprints, shapes) is
checked by `decode_manifest` alone.
"""

import inspect
from typing import Any

import msgspec

from edge_oneshot_device.bundle.manifest import FORMAT, Manifest

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def manifest_schema() -> dict[str, Any]:
    """The schema as plain data, for `json.dumps`."""
    schema = msgspec.json.schema(Manifest)
    for definition in schema["$defs"].values():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return {"$schema": _DIALECT, "title": f"manifest.json of a .oneshot bundle, format {FORMAT}", **schema}
