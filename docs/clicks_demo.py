"""Correct the sample by the real clients of viewers: `python docs/clicks_demo.py BUNDLE`.

Needs MONAI Label's environment (see `label_demo.py`) and `nninteractive-client`. Starts `unetpp label start` and
`unetpp clicks` on loopback one after the other, does with both clients what viewers do, shows it, stops the servers.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from label_demo import free_port, label_python, running, say, show

from unetpp_monai.words import counted

FRONT, BACK = "anterior hippocampus", "posterior hippocampus"
IN_FRONT, IN_BACK, OUTSIDE = [20, 26, 16], [18, 30, 14], [20, 9, 16]  # voxels of the sample
CASE = "mni_hippocampus_right"


def main(bundle: str, *options: str) -> None:
    """Run both parts, the first in MONAI Label's environment; exit 0 only if every call was answered."""
    import unetpp_monai

    sample = Path(unetpp_monai.__file__).parent / "sample" / f"{CASE}.nii.gz"
    with tempfile.TemporaryDirectory() as folder:
        if options:
            by_monai_label(Path(bundle), sample, Path(folder))
        else:
            first = [label_python(), "-W", "ignore", __file__, bundle, "--label"]
            if code := subprocess.run(first, check=False).returncode:
                sys.exit(code)
            by_nninteractive(Path(bundle), sample, Path(folder))


def by_monai_label(bundle: Path, sample: Path, folder: Path) -> None:
    """Correct as 3D Slicer's plugin of MONAI Label does: every request has all points."""
    from monailabel.client.client import MONAILabelClient

    port, studies = free_port(), folder / "studies"
    studies.mkdir()
    (studies / sample.name).write_bytes(sample.read_bytes())
    options = ["--bundle", bundle, "--studies", studies, "--state", folder / "state", "--port", port]
    say(f"$ unetpp label start --bundle {bundle.name} --studies studies --port {port}")
    with running(["label", "start", *map(str, options)], folder, f"http://127.0.0.1:{port}/openapi.json"):
        client = MONAILabelClient(f"http://127.0.0.1:{port}", tmpdir=str(folder), client_id="demo")
        say(f">>> client = MONAILabelClient('http://127.0.0.1:{port}')")
        ((model, about),) = client.info()["models"].items()
        say(f">>> model = {model!r}\n>>> client.info()['models'][model]")
        show({key: about[key] for key in ("type", "labels")})
        clicks: dict[str, Any] = {}
        for label, voxel in ((None, None), (FRONT, IN_FRONT), ("background", OUTSIDE)):
            if label:
                clicks[label] = [voxel]
            params = {"depth": "1", **clicks}
            say(f">>> label, report = client.infer(model, {CASE!r}, {params})")
            report = client.infer(model, CASE, params)[1]
            prompts = report.get("prompts", [])
            marked = [f"{counted(one['positions'], one['kind'][:-1])} {one['label']}" for one in prompts]
            show({"ml": report["ml"], "prompts": marked, "seconds": report["latencies"]["total"]})


def by_nninteractive(bundle: Path, sample: Path, folder: Path) -> None:
    """Correct one structure as viewers do that have nnInteractive's client: prompt by prompt, with undo."""
    import nibabel as nib
    import numpy as np
    from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession

    port, image = free_port(), nib.load(sample)
    voxels = image.get_fdata(dtype=np.float32)
    buffer, line = np.zeros(voxels.shape, np.uint8), np.zeros(voxels.shape, np.uint8)
    line[OUTSIDE[0], OUTSIDE[1] - 2 : OUTSIDE[1] + 3, OUTSIDE[2]] = 1
    say(f"$ unetpp clicks --bundle {bundle.name} --label '{BACK}' --axes RAS --depth 1 --port {port}")
    options = ["--bundle", bundle, "--label", BACK, "--axes", "RAS", "--depth", "1", "--port", port]
    url = f"http://127.0.0.1:{port}"
    with (
        running(["clicks", *map(str, options)], folder, f"{url}/healthz"),
        nnInteractiveRemoteInferenceSession(url) as session,
    ):
        say(f">>> session = nnInteractiveRemoteInferenceSession({url!r})\n>>> session.supported_interactions")
        show(session.supported_interactions)
        session.set_image(voxels[None], {"spacing": [1.0, 1.0, 1.0]})
        session.set_target_buffer(buffer)
        say(">>> session.set_image(voxels[None], {'spacing': [1.0, 1.0, 1.0]}); session.set_target_buffer(buffer)")

        def shown(call: str) -> None:
            before = buffer.copy()
            result = eval(f"session.{call}", {"session": session, "line": line})
            say(f">>> session.{call}")
            more, less = int((buffer > before).sum()), int((buffer < before).sum())
            told = f"{result}; " if isinstance(result, bool) else ""
            say(f"{told}buffer: {int(buffer.sum())} voxels, {more} new, {less} gone")

        shown(f"add_point_interaction({IN_BACK}, include_interaction=True)")
        shown(f"add_point_interaction({OUTSIDE}, include_interaction=False)")
        shown("undo()")
        shown("add_scribble_interaction(line, include_interaction=False)")
        shown("undo()")
        shown("reset_interactions()")
        shown("undo()")


if __name__ == "__main__":
    main(*sys.argv[1:])
