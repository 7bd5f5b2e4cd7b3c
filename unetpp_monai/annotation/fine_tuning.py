"""Fine-tune a bundle from its served weights, and publish weights that validate no worse. Independent of the server."""

import json
import logging
import pickle
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from ..bundle import read_bundle
from ..errors import BundleError, InputError, OutputError
from ..files import complete_file
from .training_cases import Labelled, Split, check_share, name_hash, prepare, split_cases
from .version_store import Version, VersionStore, WeightsOrigin

TRAIN = "configs/train.json"
WORK, PROGRESS, BEST = "training", "progress.json", "best.pt"
METRIC = "val_mean_dice"
# handlers of train.json that write files or log; replaced here by versions and progress of the server
REPLACED = ("CheckpointSaver", "StatsHandler", "TensorBoardStatsHandler")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Options of fine-tuning."""

    max_epochs: int  # >= 1
    learning_rate: float  # at the start; cosine decay to 0
    val_split: float  # fraction of validation cases, 0 < val_split < 1
    device: str  # such as "cpu" or "cuda:0"
    seed: int = 0  # of crops and augmentation
    trust: bool = False  # see `read_bundle`


def fine_tune(root: Path, cases: Sequence[Labelled], options: Options) -> Version | None:
    """Train from the served weights and publish the best epoch, unless it validates worse.

    Both are measured on the same cases, which no version was trained on. Leftovers of a killed training are removed
    at the start of the next one.

    Args:
        root: folder of a copied bundle with `configs/train.json`.
        cases: labelled cases.
        options: of the training.

    Returns:
        The new version; None if no epoch was as good as the served weights.

    Raises:
        InputError: too few cases, labels that do not fit, or invalid options.
        BundleError: the bundle cannot be trained.
        OutputError: its folder is not writable.
    """
    check_options(options)
    store = VersionStore(root)
    served = store.served()
    trained = frozenset(name for version in store.versions() for name in version.origin.training_cases)
    split = split_cases(cases, share=options.val_split, trained=trained)
    work = root / WORK
    _empty(work)
    logger.info("training on %d cases, validating on %d", len(split.training), len(split.validation))
    run = _Run(root, work, split, options, served.weights)
    run()
    version = _publish(store, run, split)
    shutil.rmtree(work / "labels")
    (work / BEST).unlink(missing_ok=True)
    return version


def check_options(options: Options) -> None:
    """Check options before reading cases.

    Raises:
        InputError: invalid options.
    """
    if options.max_epochs < 1 or not 0 < options.learning_rate < float("inf"):
        raise InputError(
            f"max_epochs must be >= 1 and learning_rate > 0, got {options.max_epochs}, {options.learning_rate}"
        )
    check_share(options.val_split)


def read_progress(root: Path) -> dict[str, Any]:
    """Return the progress of the current or last training of a bundle; empty without."""
    try:
        progress = json.loads((root / WORK / PROGRESS).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return progress if isinstance(progress, dict) else {}


class _Run:
    """One training: the workflow of train.json with cases, weights and handlers of this server."""

    def __init__(self, root: Path, work: Path, split: Split, options: Options, weights: Path) -> None:
        self.work, self.options, self.start = work, options, time.time()
        self.before = self.best = 0.0
        self.best_epoch: int | None = None
        self.losses: list[float] = []
        self.loss: float | None = None  # mean of the last epoch
        parser = _parser(root, work, split, options)
        self.network: torch.nn.Module = parser.get_parsed_content("network")
        _load(self.network, weights)
        parser.get_parsed_content("initialize")
        self.evaluator: Any = parser.get_parsed_content("validate#evaluator")
        self.trainer: Any = parser.get_parsed_content("train#trainer")
        for engine in (self.trainer, self.evaluator):
            engine.logger.setLevel(logging.WARNING)  # clients see only the last 20 lines: keep them for our messages

    def __call__(self) -> None:
        self.evaluator.run()
        self.before = self.best = self._dice()
        logger.info("validation Dice of the served weights: %.4f", self.before)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        self.trainer.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)  # after train.json's validation
        self._report(0, None)
        self.trainer.run()
        self._report(self.trainer.state.epoch, self._dice(), finished=True)

    def _dice(self) -> float:
        return float(self.evaluator.state.metrics[METRIC])

    def _iteration(self, engine: Engine) -> None:
        output: Any = engine.state.output
        first = output[0] if isinstance(output, list) else output
        self.losses.append(float(first["loss"]))

    def _epoch(self, engine: Engine) -> None:
        epoch, dice = engine.state.epoch, self._dice()
        if dice >= self.best:
            self.best, self.best_epoch = dice, epoch
            with complete_file(self.work / BEST) as temporary:
                torch.save({name: value.cpu() for name, value in self.network.state_dict().items()}, temporary)
        self.loss = sum(self.losses) / len(self.losses)
        self.losses.clear()
        logger.info(
            "epoch %d of %d: loss %.4f, validation Dice %.4f (served weights %.4f, best %.4f)",
            epoch, self.options.max_epochs, self.loss, dice, self.before, self.best,
        )  # fmt: skip
        self._report(epoch, dice)

    def _report(self, epoch: int, dice: float | None, *, finished: bool = False) -> None:
        """Write the progress for clients; Slicer's progress bars read the first four keys."""
        seconds = int(time.time() - self.start)
        progress = {
            "epoch": epoch,
            "total_epochs": self.options.max_epochs,
            "best_metric": self.best,
            "total_time" if finished else "current_time": f"{seconds} s",
            "loss": self.loss,
            "validation_dice": dice,
            "served_dice": self.before,
        }
        with complete_file(self.work / PROGRESS) as temporary:
            temporary.write_text(json.dumps(progress))


def _parser(root: Path, work: Path, split: Split, options: Options) -> ConfigParser:
    """Parse train.json with our cases as its first fold (validation) and second fold (training)."""
    if not (root / TRAIN).is_file():
        raise BundleError(f"a bundle must hold {TRAIN} for training, found none in {root}; pack it with its training")
    bundle = read_bundle(root, trust=options.trust)
    config, labels = bundle.config(TRAIN), bundle.labels
    training, validation = prepare(
        *(split, labels, work / "labels"), channels=bundle.channel_suffixes, in_channels=bundle.input.channels
    )
    parser = ConfigParser()
    parser.read_config(config)
    parser.update({
        "bundle_root": str(root),
        "output_dir": str(work),
        "ckpt_dir": str(work),
        "device": f"$torch.device({options.device!r})",
        "seed": options.seed,
        "label_values": [],  # our files have label indices
        "folds": [validation, training],
        "num_folds": 2,
        "fold": 0,
        "max_epochs": options.max_epochs,
        "warmup_epochs": 0,
        "learning_rate": options.learning_rate,
        "val_interval": 1,
        "resume": False,
        "initial_weights": "",
        "initialize": [
            "$monai.utils.set_determinism(seed=@seed)",
            "$torch.backends.cudnn.set_flags(_benchmark=True, _deterministic=False)",
            "$@early_stop.set_trainer(trainer=@train#trainer)",
        ],
    })  # fmt: skip
    for part in ("train#handlers", "validate#handlers"):
        parser[part] = [item for item in parser[part] if not _replaced(parser, item)]
    return parser


def _replaced(parser: ConfigParser, item: Any) -> bool:
    """Tell whether a handler, inline or by reference (`@name`), is in `REPLACED`."""
    handler = parser[item[1:]] if isinstance(item, str) else item
    return str(handler["_target_"]).split(".")[-1] in REPLACED


def _empty(folder: Path) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise OutputError(f"{folder} must be writable, got {error.strerror or error}; check the disk") from error


def _load(network: torch.nn.Module, weights: Path) -> None:
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (RuntimeError, TypeError, AttributeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise BundleError(f"{weights} must hold the weights of network_def in {TRAIN}, got {error}") from error


def _publish(store: VersionStore, run: _Run, split: Split) -> Version | None:
    if run.best_epoch is None:
        logger.info("not published: no epoch reached the validation Dice of the served weights, %.4f", run.before)
        return None
    origin = WeightsOrigin(
        reason="trained",
        dice_before=run.before,
        dice_after=run.best,
        validation_cases=len(split.validation),
        training_cases=tuple(sorted(name_hash(case.name) for case in split.training)),
        epochs=run.best_epoch,
    )
    version = store.publish(run.work / BEST, origin)
    logger.info("published version %d: validation Dice %.4f, before %.4f", version.number, run.best, run.before)
    return version
