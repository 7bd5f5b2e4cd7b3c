"""What stands in for a model: results of a few bytes, by the real protocol of claims and deliveries."""

import hashlib
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from unetpp_monai.cohort.cases import Case
from unetpp_monai.cohort.work import Segments, Work
from unetpp_monai.files import complete_folder
from unetpp_monai.workflows.done import CaseInput
from unetpp_monai.workflows.many import Row, failed
from unetpp_monai.workflows.segment import Unless

SETTINGS = {"weights_sha256": "stub"}


class _MeanwhileError(Exception):
    """Another has delivered it."""


@dataclass(frozen=True)
class Stub:
    """Segments by hashing; what a case is called says what befalls its worker."""

    work: Work
    seconds: float
    marks: Path | None  # folder in which is noted what was begun

    def __call__(self, case: Case, *, unless: Unless, overwrite: bool, smallest: bool) -> Row:
        """Write `<case>_seg.nii.gz` and `<case>.json`."""
        name = str(case.name)
        names = [f"{name}_seg.nii.gz", f"{name}.json"]
        case_input = CaseInput((case.path,), case.folder)
        try:
            return self._segment(case, names, case_input, unless=unless, smallest=smallest)
        except _MeanwhileError:
            return Row(case.path, "done")
        except (MemoryError, ValueError) as error:
            return failed(case.path, error)

    def _segment(self, case: Case, names: list[str], case_input: CaseInput, *, unless: Unless, smallest: bool) -> Row:
        report = case.folder / names[1]

        def check() -> None:
            if unless(report, SETTINGS, case_input, names):
                raise _MeanwhileError

        check()
        self._befall(str(case.name), smallest=smallest)
        content = hashlib.sha256(case.path.read_bytes()).hexdigest()
        with complete_folder(case.folder, last=names[1], check=check) as folder:
            (folder / names[0]).write_text(content)
            digest = hashlib.sha256(content.encode()).hexdigest()
            found = {"voxels": {"a": 1}, "ml": {"a": 0.001}, "scores": {}, "seconds": {"network": self.seconds}}
            outputs = {"nifti": {"file": names[0], "sha256": digest}}
            (folder / names[1]).write_text(json.dumps({**case_input.stated(), **SETTINGS, **found, "outputs": outputs}))
        return Row(case.path, "written")

    def _befall(self, name: str, *, smallest: bool) -> None:
        first = True
        if self.marks is not None:
            first = not (self.marks / name).exists()
            with (self.marks / name).open("a") as file:
                file.write(f"{os.getpid()} {'smallest' if smallest else 'usual'}\n")
        time.sleep(self.seconds)
        if "wrong" in name:
            raise ValueError("it is wrong")
        if "huge" in name and not smallest:
            raise MemoryError
        if "kills" in name or ("once" in name and first) or ("large" in name and not smallest):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class BuildsStub:
    """Builds it, in whatever process."""

    work: Work
    seconds: float = 0.0
    marks: Path | None = None
    broken: str = ""  # why it cannot be built

    def __call__(self) -> Segments:
        """Build it."""
        if self.broken == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.broken:
            raise ValueError(self.broken)
        return Stub(self.work, self.seconds, self.marks)
