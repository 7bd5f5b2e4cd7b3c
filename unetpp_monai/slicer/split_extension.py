"""Split the extension off: a folder that is a repository of Slicer's Extensions Index, and its entry there.

python unetpp_monai/slicer/split_extension.py FOLDER URL, in a checkout; not part of the extension.
"""

from __future__ import annotations  # Slicer's Python may be 3.9

import hashlib
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
SCHEMA = (
    "https://raw.githubusercontent.com/Slicer/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#"
)
TIER = 1  # the index's lowest: builds and states what a user must know
PICTURES = ("slicer_panel.png", "slicer_module.png")  # of docs; they become Screenshots/1.png and so on
NAME = "SlicerUNetPlusPlus"


def split(folder: Path, url: str) -> tuple[Path, Path]:
    """Write the extension's repository and the entry of the index.

    Args:
        folder: where both go; it must not hold a repository already.
        url: of the repository to be, as its host shows it, without `.git`.

    Returns:
        The repository's folder and the entry's file.

    Raises:
        ValueError: the URL is not one that the index takes.
        FileExistsError: the repository's folder is there.
    """
    if not url.startswith("https://") or url.rsplit("/", 1)[-1] != NAME:
        raise ValueError(f"the URL must be https://... and end with /{NAME}, got {url}")
    repository, entry = folder / NAME, folder / "UNetPlusPlus.json"
    shutil.copytree(HERE, repository, ignore=shutil.ignore_patterns("__pycache__", Path(__file__).name))
    filled = {"URL": url, **_copy_samples(repository / "Samples")}
    for path in (repository / "CMakeLists.txt", repository / "UNetPlusPlus" / "UNetPlusPlusLib" / "sample.py"):
        text = path.read_text(encoding="utf-8")
        for name, value in filled.items():
            text = text.replace(f"@{name}@", value)
        path.write_text(text, encoding="utf-8")
    shutil.copy(CHECKOUT / "LICENSE", repository / "LICENSE")
    (repository / "Screenshots").mkdir()
    for number, picture in enumerate(PICTURES, 1):
        shutil.copy(CHECKOUT / "docs" / picture, repository / "Screenshots" / f"{number}.png")
    described = {"$schema": SCHEMA, "category": "Segmentation", "scm_url": f"{url}.git", "scm_revision": "main"}
    entry.write_text(json.dumps({**described, "tier": TIER}, indent=2) + "\n", encoding="utf-8")
    return repository, entry


def _copy_samples(folder: Path) -> dict[str, str]:
    """Copy the sample volumes with their license, return their sums."""
    shutil.copytree(HERE.parent / "sample", folder)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.nii.gz")}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python split_extension.py FOLDER URL")
    for written in split(Path(sys.argv[1]), sys.argv[2]):
        sys.stdout.write(f"{written}\n")
