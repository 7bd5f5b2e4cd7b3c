"""Reports as their published schema wants them."""

import json

import jsonschema

from helpers import ROOT

SCHEMA = json.loads((ROOT / "unetpp_monai" / "report.schema.json").read_text())


def valid_report(path):
    """Read `<case>.json`; fail if the schema does not allow it."""
    report = json.loads(path.read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report
