"""Offer the samples in Slicer's Sample Data module, if the URL of their repository is known."""

from __future__ import annotations  # Slicer's Python may be 3.9

from pathlib import Path
from typing import Any

REPOSITORY = "@URL@"  # split_extension.py fills it in
SUMS = {  # SHA-256 of the files in the repository's folder Samples
    "mni_head.nii.gz": "@mni_head.nii.gz@",
    "mni_hippocampus_right.nii.gz": "@mni_hippocampus_right.nii.gz@",
}
THUMBNAIL = Path(__file__).parents[1] / "Resources" / "Icons" / "UNetPlusPlus.png"


def register_samples(logic: Any) -> None:
    """Add the samples to Slicer's Sample Data module, if their URL is known.

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
