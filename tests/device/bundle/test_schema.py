"""The published JSON schema is the one of the types, and real manifests are valid by it."""

import json

import pytest

from edge_oneshot_device.bundle.bundle import Bundle
from edge_oneshot_device.bundle.codec import encode_manifest
from edge_oneshot_device.bundle.schema import manifest_schema
from tests import ROOT

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is of the workstation's environment")
PUBLISHED = ROOT / "docs" / "reference" / "bundle.schema.json"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(PUBLISHED.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_that_of_the_types():
    assert PUBLISHED.read_text() == json.dumps(manifest_schema(), indent=1) + "\n", "run make schema"


def test_a_real_manifest_is_valid_by_it(validator, make_bundle):
    for path in (make_bundle(), make_bundle(name="bare", calibrated=False, variants=("float32",))):
        validator.validate(json.loads(encode_manifest(Bundle.open(path).manifest)))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda plain: plain.update(surprise=1), "surprise"),
        (lambda plain: plain.pop("members"), "members"),
        (lambda plain: plain.update(format=0), "0 is less than the minimum"),
        (lambda plain: plain["input"].update(colour="blue"), "blue"),
        (lambda plain: plain["members"][0].update(path="../x"), "does not match"),
        (lambda plain: plain["variants"][0]["input"].update(scale=-1.0), "-1.0 is less than the minimum"),
    ],
)
def test_what_the_device_refuses_for_its_form_the_schema_refuses(validator, make_bundle, edit, words):
    plain = json.loads(encode_manifest(Bundle.open(make_bundle()).manifest))
    edit(plain)
    with pytest.raises(jsonschema.ValidationError, match=words):
        validator.validate(plain)
