"""The model zoo's unit tests of a bundle: in a pull request they lie at `ci/unit_tests/test_<bundle>.py`."""

import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigParser, ConfigWorkflow
from numpy.typing import NDArray

ROOT = Path("models") / Path(__file__).stem.removeprefix("test_")  # seen from the zoo's root, where its tests run
HEAD = ROOT / "unetpp_monai" / "sample"  # a whole head, in bundles that locate structures in heads
CASES = 6


class TestBundle(unittest.TestCase):
    """Inference, training and evaluation run on images made here, and leave the bundle as it was."""

    @classmethod
    def setUpClass(cls) -> None:
        """Let the configs find the bundle's copy of its package."""
        sys.path.insert(0, str(ROOT.resolve()))

    def setUp(self) -> None:
        """Make a data set of the kind that the bundle's configs read."""
        made = tempfile.TemporaryDirectory()
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)
        parser = ConfigParser()
        parser.read_config(str(self._config("inference")))
        if self._config("train").is_file():
            parser.read_config(str(self._config("train")))
        self.values = parser.get()
        for name in ("images", "labels"):
            (self.folder / name).mkdir()
        for number in range(CASES):
            self._make_case(f"case_{number}", np.random.default_rng(number))

    def test_infer_config(self) -> None:
        """`inference.json` has every property and segments every case."""
        self._run("infer", ["inference"], dataset_dir=str(self.folder / "images"))
        self.assertEqual(len(self._results()), CASES)

    def test_infer_config_head(self) -> None:
        """`inference.json` has every property, finds every label in a head, and refuses noise."""
        with self.assertRaises(RuntimeError) as refused:
            self._run("infer", ["inference"], dataset_dir=str(self.folder / "images"))
        self.assertEqual(type(refused.exception.__cause__).__name__, "InputError")
        self.assertFalse(self._results())
        self._run("infer", ["inference"], dataset_dir=str(HEAD))
        (result,) = self._results()
        wanted = range(1 + sum(map(len, self.values["locator_labels"])))
        self.assertEqual(np.unique(np.asarray(nib.load(result).dataobj)).tolist(), list(wanted))

    def test_train_eval_config(self) -> None:
        """`train.json` has every property; `evaluate.json` measures what a short training gave."""
        (self.folder / "models").mkdir()
        options = {
            "dataset_dir": str(self.folder),
            "image_folder": "images",
            "label_folder": "labels",
            "suffix": self.suffix,
            "ckpt_dir": str(self.folder / "models"),
            "num_folds": 3,
            "max_epochs": 1,
            "val_interval": 1,
            "steps_per_epoch": 1,
            "batch_size": 1,
        }
        self._run("train", ["train"], **options)
        self.assertTrue((self.folder / "models" / "model.pt").is_file())
        self._run("train", ["train", "evaluate"], **options)
        self.assertTrue((self.folder / "out" / "metrics.csv").is_file())

    @property
    def suffix(self) -> str:
        """Ending of the images' names."""
        return str(self.values["suffix"] if "suffix" in self.values else self.values["output_ext"])

    def _results(self) -> list[Path]:
        return list((self.folder / "out").glob("*_seg.*"))

    def _run(self, kind: str, names: list[str], **options: Any) -> None:
        files = [str(self._config(name)) for name in names]
        workflow = ConfigWorkflow(
            workflow_type=kind,
            config_file=files if len(files) > 1 else files[0],
            logging_file=str(ROOT / "configs" / "logging.conf"),
            meta_file=str(ROOT / "configs" / "metadata.json"),
            bundle_root=str(ROOT),
            output_dir=str(self.folder / "out"),
            **options,
        )
        workflow.initialize()
        self.assertFalse(workflow.check_properties())
        workflow.run()
        workflow.finalize()

    @staticmethod
    def _config(name: str) -> Path:
        return ROOT / "configs" / f"{name}.json"

    def _make_case(self, name: str, rng: np.random.Generator) -> None:
        """Write noise, with a block of each label that is brighter."""
        shape = tuple(self.values.get("patch_size") or self.values["roi_size"])
        labels = np.zeros(shape, np.uint8)
        count = int(self.values["out_channels"])
        width = shape[0] // (count + 1)
        for value in range(1, count):
            labels[value * width : (value + 1) * width, shape[1] // 4 : -shape[1] // 4] = value
        stored = np.array(self.values.get("label_values") or range(count), np.uint8)[labels]
        self._save("labels", name, stored)
        endings = self.values.get("channel_suffixes") or [""]
        for ending in endings:
            channels = int(self.values["in_channels"]) // len(endings)
            noise = rng.normal(80, 20, (*shape, channels)) + 40 * labels[..., None]
            grey = noise.clip(0, 255).astype(np.uint8)
            self._save("images", f"{name}{ending}", grey[..., 0] if channels == 1 else grey)

    def _save(self, folder: str, name: str, array: NDArray[np.uint8]) -> None:
        path = self.folder / folder / f"{name}{self.suffix}"
        if path.suffix == ".png":
            from PIL import Image

            Image.fromarray(array.swapaxes(0, 1)).save(path)
        else:
            spacing = [*(self.values.get("pixdim") or ()), 1.0, 1.0, 1.0][:3]
            nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


if HEAD.is_dir():  # two networks, which are not trained as one
    del TestBundle.test_infer_config, TestBundle.test_train_eval_config
else:
    del TestBundle.test_infer_config_head

if __name__ == "__main__":
    unittest.main()
