"""The walk-through of docs/clicks.md runs as it stands."""

import re
import shutil

import numpy as np
import pytest
from helpers import ROOT
from helpers.interactive import interactive_bundle

from unetpp_monai import read_volume


@pytest.mark.slow
def test_the_python_of_the_document(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "clicks.md").read_text(), re.DOTALL)
    shutil.copy(ROOT / "unetpp_monai" / "sample" / "mni_hippocampus_right.nii.gz", tmp_path / "case.nii.gz")
    shutil.move(interactive_bundle(tmp_path / "made"), tmp_path / "organ_bundle")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    found = read_volume(tmp_path / "case_seg.nii.gz", labels=True)
    assert found.same_grid(read_volume(tmp_path / "case.nii.gz")) and set(np.unique(found.array)) <= {0, 1, 2}
