"""The table of bundles in CHANGELOG.md; `python tests/helpers/changelog.py` writes it anew."""

import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = "| bundle | version | change |\n|---|---|---|\n"


def table():
    """Rows of all bundles, newest version first, as their metadata states them."""
    rows = []
    for path in sorted((ROOT / "configs").glob("*/metadata.json")):
        for version, change in json.loads(path.read_text())["changelog"].items():
            rows.append(f"| {path.parent.name} | {version} | {change} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    file = ROOT / "CHANGELOG.md"
    file.write_text(file.read_text().partition(HEAD)[0] + HEAD + table())
