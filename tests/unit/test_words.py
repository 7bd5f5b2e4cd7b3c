"""Texts for people have real plurals."""

import re

from helpers import ROOT

SOURCES = [
    *(path for folder in ("unetpp_monai", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")),
    *(path for place in ("*.md", "docs/*.md", "configs/*/docs/*.md", "benchmarks/*.md") for path in ROOT.glob(place)),
    *(path for kind in ("*.json", "*.html") for path in (ROOT / "unetpp_monai").rglob(kind)),
]
GUESSED = re.compile(r"\b[A-Za-z]+(?<!http)\(e?s\)")  # such as "file(s)", but not "http(s)"


def test_no_text_leaves_the_plural_to_its_reader():
    """`unetpp_monai.words.counted` writes a number with its noun."""
    assert len(SOURCES) > 300 and GUESSED.search("2 file(s)")
    found = {str(path): texts for path in SOURCES if (texts := GUESSED.findall(path.read_text()))}
    assert not found
