"""Prepare a cohort from a user's options: bundle, cases, review, and what is segmented again."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..bundle import Bundle, read_bundle
from ..errors import InputError
from ..json_files import read_object
from ..pacs.rules import Rule, read_rules
from ..workflows.calibrate import Quota
from ..workflows.request import Request
from .cases import Case, Selection, list_cohort
from .launch import Launch
from .review import apply_review, read_review
from .run import Cohort, cohort_records, prepare
from .work import Model, Segmenting, Work


@dataclass(frozen=True)
class Options:
    """Options of a cohort, besides the request for each case."""

    image: str = "T1w"  # suffix of images of a BIDS data set
    participants: tuple[str, ...] = ()  # of a BIDS data set; empty: all
    rules: Path | None = None  # for series of a DICOM tree; None: those of the bundle's modality
    review: Path | None = None  # saved by the report
    quota: Path | None = None  # of `unetpp calibrate --unlabelled`
    pictures: bool = True  # draw one per case
    verify: bool = False  # see `is_done`


@dataclass(frozen=True)
class Begun:
    """A cohort that is ready to run."""

    cohort: Cohort
    cases: tuple[Case, ...]  # for this launcher
    builds: Segmenting
    work: Work
    outdated: tuple[str, ...] = field(default=())  # cases whose review refers to an older result


def begin(
    inputs: Sequence[Path], output: Path, model: Model, request: Request, *, options: Options, launch: Launch
) -> Begun:
    """List the cases and create the folders.

    Args:
        inputs: see `list_cohort`.
        output: folder for the results.
        model: segments the cases.
        request: for each case.
        options: of the cohort.
        launch: where loops run.

    Raises:
        InputError: inputs, rules or reviews are not valid.
        BundleError: the bundle cannot be used.
        OutputError: the folder cannot be used.
    """
    bundle = read_bundle(model.bundle, weights=model.weights, trust=model.trust)
    bundle.check_trust()
    selection = Selection(
        channels=bundle.channel_suffixes,
        series=tuple(request.series or ()),
        rules=_rules(options.rules, bundle),
        image=options.image,
        participants=options.participants,
        key=request.key,
    )
    listed = list_cohort(inputs, output, selection)
    cohort = Cohort(
        listed, output, bundle, request.key is not None, _quota(options.quota, bundle), stated=_stated(request, model)
    )
    prepare(cohort)
    cases = launch.part(listed)
    ledger = cohort.ledger
    outdated: tuple[str, ...] = ()
    again: set[str] = set()
    if options.review is not None:
        reviewed = apply_review(read_review(options.review), cohort_records(cohort))
        cohort, outdated = replace(cohort, excluded=reviewed.excluded), reviewed.outdated
        again = {record.id for record in reviewed.again}
    for case in cases:
        if request.overwrite or case.id in again:
            ledger.want_again(case.id)
    work = Work(
        replace(request, overwrite=False, naming=listed.naming),
        verify=options.verify,
        pictures=ledger.pictures if options.pictures else None,
    )
    if launch.ray is None:  # pack a task into a bundle folder once, here; other machines could not see it
        model = replace(model, bundle=bundle.root)
    return Begun(cohort, cases, Segmenting(replace(model, volumes=len(cases)), work, launch.threads), work, outdated)


def _rules(path: Path | None, bundle: Bundle) -> tuple[Rule, ...]:
    """Read the rules for series of a DICOM tree."""
    if path is None:
        return (Rule(modality=bundle.input.modality),)
    rules = read_rules(path)
    if any(rule.bundle is not None or rule.depth is not None for rule in rules):
        raise InputError(f"rules of a cohort must leave bundle and depth to its options, got others in {path}")
    return rules


def _quota(path: Path | None, bundle: Bundle) -> Quota | None:
    """Read a quota, and check that it was made with these weights."""
    if path is None:
        return None
    content = read_object(path)
    try:
        quota = Quota(**content["quota"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"a quota must be written by unetpp calibrate from unlabelled images, got {error!r} in {path}"
        ) from error
    if content.get("weights_sha256") != bundle.weights_sha256:
        raise InputError(f"a quota must be made with the weights in use, got other weights in {path}")
    return quota


def _stated(request: Request, model: Model) -> dict[str, Any]:
    """Describe a run for `run.json`; without paths and command if pseudonymised."""
    keyed = request.key is not None
    wanted = {
        "formats": list(request.formats),
        "depth": None if request.depth is None else str(request.depth),
        "uncertainty": request.uncertainty,
        "pseudonymised": keyed,
        "device": model.device,
        "runtime": model.runtime,
        "precision": model.precision,
    }
    return {"wanted": wanted, **({} if keyed else {"command": sys.argv[1:], "folder": str(Path.cwd())})}
