"""Slicer's Sample Data: the shipped samples, if the extension's repository, which holds them, is known."""

from __future__ import annotations  # Slicer's Python may be 3.9

from pathlib import Path
from typing import Any

REPOSITORY = "@URL@"  # split_extension.py fills it in
SUMS = {  # SHA-256 of what lies under Samples in that repository
    "mni_head.nii.gz": "@mni_head.nii.gz@",
    "mni_hippocampus_right.nii.gz": "@mni_hippocampus_right.nii.gz@",
}
THUMBNAIL = Path(__file__).parents[1] / "Resources" / "Icons" / "UNetPlusPlus.png"


def register_samples(logic: Any) -> None:
    """Add the samples to Slicer's Sample Data module; none, if their address is not known.

    Args:
        logic: SampleData.SampleDataLogic.
    """
    if not REPOSITORY.startswith("https://"):
        return
    for file, sha256 in SUMS.items():
        name = file.split(".")[0]
        logic.registerCustomSampleDataSource(
            category="UNet++",
            sampleName=name,
            thumbnailFileName=str(THUMBNAIL),
            uris=f"{REPOSITORY}/raw/main/Samples/{file}",
            fileNames=file,
            checksums=f"SHA256:{sha256}",
            nodeNames=name,
        )
