"""Phantoms and fixtures: real data are used where `shared/` lies beside the checkout, generated images otherwise."""

import logging
import multiprocessing
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import SHARED, marks, phantom, save_nifti

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: threads of each would only wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# validators and readers of others lie beside Python, whether its environment is activated or not
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

NEEDS = {"shared_data": "data", "server": "server", "archive": "server", "guarded": "server"}  # mark by fixture


def pytest_addoption(parser):
    parser.addoption("--spawn", action="store_true", help="Start processes as Windows and macOS do: no forks.")


def pytest_configure(config):
    if config.getoption("--spawn"):
        multiprocessing.set_start_method("spawn", force=True)


def pytest_collection_modifyitems(items):
    """Mark tests by what they use, and let files with slow tests begin first: no worker is left alone with one."""
    for item in items:
        for fixture in set(item.fixturenames) & set(NEEDS):
            item.add_marker(NEEDS[fixture])
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    marks.current[:] = [item]
    return (yield)


def pytest_terminal_summary(terminalreporter):
    """The 20 slowest files, in seconds of all their tests."""
    seconds = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.partition("::")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section("slowest 20 files")
    for file, duration in seconds.most_common(20):
        terminalreporter.write_line(f"{duration:8.1f}s {file}")


@pytest.fixture
def image_file(tmp_path):
    """A NIfTI phantom with anisotropic voxels, LPS axes and an offset."""
    affine = np.diag([-1.1, -0.9, 1.2, 1.0])
    affine[:3, 3] = (20, 30, -15)
    return save_nifti(tmp_path / "case_1.nii.gz", phantom()[0], affine)


@pytest.fixture(scope="session")
def msd_folder(tmp_path_factory):
    """Six labelled phantoms in the layout of the Medical Segmentation Decathlon."""
    folder = tmp_path_factory.mktemp("msd")
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index in range(6):
        image, labels = phantom(seed=index)
        save_nifti(folder / "imagesTr" / f"case_{index}.nii.gz", image)
        save_nifti(folder / "labelsTr" / f"case_{index}.nii.gz", labels)
    return folder


@pytest.fixture(scope="session")
def shared_data():
    """Real data beside the checkout."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the real data in {SHARED / 'data'}")
    return SHARED / "data"


@pytest.fixture(autouse=True)
def levels_of_logging_stay():
    """Commands in this process set levels, by which later tests would hear what others log."""
    loggers = [logging.getLogger(name) for name in (None, "unetpp_monai", "highdicom")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
