"""What validators and readers of others say about DICOM files that we wrote."""

import json
import shutil
import subprocess

import pytest


def run(tool, *arguments):
    """Run an external program; skip the test where it is not installed."""
    if not (program := shutil.which(tool)):
        pytest.skip(f"needs {tool}")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, errors="replace")


def errors_of(tool, *arguments):
    """Lines in which dicom3tools complain; their exit status tells nothing."""
    done = run(tool, *arguments)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith(("Error", "Abort"))]


def check_report(path):
    """Let dciodvfy, DCMTK and dcmqi read a report; return what dcmqi finds: its measurement groups."""
    assert errors_of("dciodvfy", path) == []
    dump = run("dsrdump", path)
    assert dump.returncode == 0, dump.stderr
    found = path.with_suffix(".json")
    done = run("tid1500reader", "--inputDICOM", path, "--outputMetadata", found)
    assert done.returncode == 0, done.stderr
    return json.loads(found.read_text())["Measurements"]


def volumes_of(groups):
    """Millilitres by tracking identifier of dcmqi's measurement groups that have a volume."""
    return {
        group["TrackingIdentifier"]: float(item["value"])
        for group in groups
        for item in group.get("measurementItems", [])
        if (item["quantity"]["CodeValue"], item["units"]["CodeValue"]) == ("118565006", "mL")
    }
