"""What pyproject.toml cannot say: packages that are found, data folders of the checkout, and the README of an index."""

import re
import tomllib
from pathlib import Path

from setuptools import find_namespace_packages, setup

DATA = {"unetpp_monai.default_bundle": "bundle", "unetpp_monai.tasks": "configs"}  # package -> folder
FOUND = find_namespace_packages(include=["unetpp_monai", "unetpp_monai.*"])
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)")  # picture or link to a file of the checkout


def long_description(readme: str, source: str | None) -> str:
    """Turn links to files into links to the repository, or into plain words where none is stated."""

    def absolute(link: re.Match[str]) -> str:
        mark, words, path = link.groups()
        if source is None:
            return "" if mark else words
        return f"{mark}[{words}]({source}/{'raw' if mark else 'blob'}/HEAD/{path})"

    return LINK.sub(absolute, readme)


if __name__ == "__main__":
    root = Path(__file__).parent
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = (root / "README.md").read_text(encoding="utf-8")
    setup(
        packages=[*FOUND, *DATA],
        package_dir=DATA,
        long_description=long_description(readme, project["urls"].get("Source")),
        long_description_content_type="text/markdown",
    )
