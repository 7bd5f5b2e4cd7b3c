"""One command from nothing to an annotation server that answers: `python docs/label_demo.py [--train]`.

Needs MONAI Label's environment (`make label`; or UNETPP_LABEL_PYTHON names its python). Starts `unetpp label start` on
sample images on loopback, does with MONAI Label's own client what Slicer's plugin does, shows it, stops the server.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
UNETPP = Path(sys.executable).with_name("unetpp")
PATIENCE = 600  # seconds, which only a hang reaches
NOISE = {"a_sound": 0.0, "b_noisy": 0.05, "c_noisier": 0.15}  # image: standard deviation, share of the highest value


def main() -> None:
    """Run the demo in MONAI Label's environment; exit 0 only if every call was answered as it should be."""
    if importlib.util.find_spec("monailabel") is None:
        arguments = [label_python(), "-W", "ignore", __file__, *sys.argv[1:]]
        sys.exit(subprocess.run(arguments, check=False).returncode)
    with tempfile.TemporaryDirectory() as name:
        studies, port = Path(name) / "studies", free_port()
        write_images(studies)
        with serving(studies, Path(name), port) as url:
            annotate(url, Path(name), train="--train" in sys.argv[1:])


def label_python() -> Path:
    """Return the Python of MONAI Label's environment; exit if it is not installed."""
    python = Path(os.environ.get("UNETPP_LABEL_PYTHON") or HERE.parent / ".venv-label" / "bin" / "python")
    if not python.exists():
        sys.exit(f"needs MONAI Label's environment, found no {python}: make label, or set UNETPP_LABEL_PYTHON")
    return python


def annotate(url: str, folder: Path, *, train: bool) -> None:
    """Do what an annotator's program does, and show it."""
    from monailabel.client.client import MONAILabelClient

    client = MONAILabelClient(url, tmpdir=str(folder), client_id="demo")
    say(f">>> client = MONAILabelClient({url!r})")
    info = client.info()
    (model, about), *_ = info["models"].items()
    say(">>> client.info()")
    show({key: about[key] for key in ("labels", "config", "version")} | {"strategies": list(info["strategies"])})

    wait_for(lambda: not runs(f"{url}/scoring/"))  # in the background, since the server started
    image = client.next_sample("least_certain", {})["id"]
    say(">>> client.next_sample('least_certain', {})['id']")
    show(image)
    say(">>> client.datastore()  # the scores in it: how much the network's heads disagree")
    show(scores(client, model))

    label, report = client.infer(model, image, {"depth": "full", "uncertainty": True})
    say(f">>> label, report = client.infer({model!r}, {image!r}, {{'depth': 'full', 'uncertainty': True}})")
    show({key: report[key] for key in ("label_names", "ml", "scores", "score", "review", "latencies") if key in report})

    names = [{"name": label_name, "idx": index} for label_name, index in about["labels"].items()]
    for case in NOISE if train else [image]:
        label = client.infer(model, case, {})[0]
        say(f">>> client.save_label({case!r}, label, 'final')  # an annotator would have corrected it")
        client.save_label(case, label, "final", {"label_info": names})
    say(">>> client.info()['datastore']")
    show(client.info()["datastore"])
    if train:
        learn(client, model, folder)
    else:
        say(">>> client.next_sample('least_certain', {})['id']")
        show(client.next_sample("least_certain", {})["id"])


def learn(client: Any, model: str, folder: Path) -> None:
    """Train for one epoch, wait for its end, and list the versions."""
    client.train_start(model, {"max_epochs": 1, "val_split": 0.34, "device": "cpu"})
    say(f">>> client.train_start({model!r}, {{'max_epochs': 1, 'val_split': 0.34}})")
    wait_for(lambda: client.train_status()["status"] not in ("SUBMITTED", "RUNNING"))
    show({"status": client.train_status()["status"], **client.info()["train_stats"]})
    say(f"$ unetpp label versions STATE/bundles/{model}")
    bundle = folder / "state" / "bundles" / model
    subprocess.run([UNETPP, "label", "versions", bundle], check=True)


def write_images(folder: Path) -> None:
    """Write a sample, a crop around one hippocampus, and the same with noise."""
    import nibabel as nib
    import numpy as np

    import unetpp_monai

    sample = Path(unetpp_monai.__file__).parent / "sample" / "mni_hippocampus_right.nii.gz"
    image = nib.load(sample)
    voxels = image.get_fdata()
    noise = np.random.default_rng(0).normal(size=voxels.shape)
    folder.mkdir()
    for name, share in NOISE.items():
        noisy = np.clip(voxels + share * voxels.max() * noise, 0, None).astype(np.float32)
        nib.save(nib.Nifti1Image(noisy, image.affine, image.header, dtype=np.float32), folder / f"{name}.nii.gz")


@contextmanager
def serving(studies: Path, folder: Path, port: int) -> Iterator[str]:
    """Run the server while the block runs; give its address."""
    say(f"$ unetpp label start --task hippocampus --studies {studies.name} --port {port}")
    options = ["--task", "hippocampus", "--studies", studies, "--state", folder / "state", "--port", port]
    url = f"http://127.0.0.1:{port}"
    with running(["label", "start", *map(str, options)], folder, f"{url}/openapi.json"):
        yield url


@contextmanager
def running(arguments: list[str], folder: Path, page: str) -> Iterator[None]:
    """Run `unetpp` with arguments, from the first answer for a page of it to the end of the block."""
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([UNETPP, *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: answers(page) or process.poll() is not None)
        if process.poll() is not None:
            sys.exit(f"the server did not start:\n{(folder / 'server.log').read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(30)


def scores(client: Any, model: str) -> dict[str, float | None]:
    """Uncertainty of each scored image, as the datastore tells it: the heads' disagreement."""
    images = client.datastore()["objects"]
    infos = {name: one["image"]["info"].get("uncertainty", {}).get(model) for name, one in sorted(images.items())}
    return {name: info["score"] for name, info in infos.items() if info}


def runs(task: str) -> bool:
    """Whether the server works on a task now."""
    try:
        with urllib.request.urlopen(f"{task}?check_if_running=true") as answer:
            return answer.status == 200
    except urllib.error.HTTPError:
        return False


def answers(page: str) -> bool:
    """Whether the server answers yet."""
    try:
        with urllib.request.urlopen(page, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; exit if it takes too long."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            sys.exit(f"what should come did not come within {PATIENCE} s")
        time.sleep(0.3)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show(value: Any) -> None:
    """Show what a call gave."""
    say(
        "\n".join(f"{key}: {json.dumps(part)}" for key, part in value.items())
        if isinstance(value, dict)
        else str(value)
    )


def say(text: str) -> None:
    """Show progress at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
