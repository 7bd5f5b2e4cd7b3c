"""Read all cases of a data set and list their faults; writes nothing."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..words import counted, printable
from .dataset import ERROR, WARNING, Case, Dataset, Fault, modality_of, name_faults, sided_labels
from .examine import Facts
from .label_maps import MOST
from .reading import examine_all

LEAST = 4  # cases, needed for calibration on held-out cases
AIR = -900  # HU reached by images in Hounsfield units
BLURRED = 8  # values of unnamed labels, from which they may come from interpolation
THIN = 0.8  # of labels that are borders, see `thinness`
OUTLIER = 3.0  # ratio to the median above which a spacing is likely wrong


@dataclass(frozen=True)
class Checked:
    """A data set after reading all cases."""

    dataset: Dataset
    cases: tuple[tuple[Case, Facts], ...]  # without errors, sorted by name
    faults: tuple[Fault, ...]  # errors first, then by case
    values: tuple[int, ...]  # in the files, of the labels 0, 1, ...

    @property
    def errors(self) -> int:
        """Number of faults that prevent planning."""
        return sum(fault.kind == ERROR for fault in self.faults)


def check(dataset: Dataset, *, modality: str = "", progress: Callable[[int], None] = lambda done: None) -> Checked:
    """Read every case once, in `PROCESSES` processes if files are large.

    Args:
        dataset: its cases.
        modality: as stated, one word or one per channel with commas; empty: the channels' names tell.
        progress: called with the number of cases done.
    """
    examined = sorted(examine_all(dataset, progress), key=lambda found: found.case.name)
    left_out = {found.case.name for found in examined if found.facts is None and all(map(_warns, found.faults))}
    dataset = replace(dataset, cases=tuple(case for case in dataset.cases if case.name not in left_out))
    known = tuple(dataset.labels)
    values = (0, *(known or sorted({value for found in examined for value in found.values if value > 0})))
    sound = tuple((found.case, found.facts) for found in examined if found.facts is not None)
    faults = [*dataset.faults, *(fault for found in examined for fault in found.faults)]
    faults += [
        *name_faults(dataset.labels, dataset.channels),
        *_channel_faults(dataset, sound),
        *_rare_labels(dataset, sound),
        *(() if known else _doubtful_values(sound)),
    ]
    faults += [
        *_colours(sound),
        *_spacings(sound),
        *_units(dataset, sound, modality.split(",") if modality else ()),
        *_twice(sound),
    ]
    sound = _united(sound)
    faults += [*_of_all(sound, len(dataset.cases)), *_stated_folds(sound)]
    if len(values) > MOST + 1:
        faults.append(Fault("", f"a data set must have at most {MOST} labels, got {len(values) - 1}; merge some"))
    if sided := sided_labels(dataset.labels):
        what = (
            f"mirrored images would swap labels that have sides, got {', '.join(sided)}; left and right are not flipped"
        )
        faults.append(Fault("", what, WARNING))
    lines = (Fault(printable(fault.case), printable(fault.what), fault.kind) for fault in faults)
    ordered = sorted(lines, key=lambda fault: (fault.kind != ERROR, fault.case, fault.what))
    return Checked(dataset, sound, tuple(ordered), values)


def _warns(fault: Fault) -> bool:
    return fault.kind == WARNING


def _channel_faults(dataset: Dataset, cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    """Find cases with another number of channels, or pictures among volumes."""
    if not cases:
        return
    counts = Counter(len(facts.channels) for _, facts in cases)
    expected = len(dataset.channels) or counts.most_common(1)[0][0]
    said = "as the data set states" if dataset.channels else "as most have"
    for case, facts in cases:
        if len(facts.channels) != expected:
            yield Fault(
                case.name, f"images must have {counted(expected, 'channel')}, {said}, got {len(facts.channels)}"
            )
    pictures = [case for case, facts in cases if facts.picture]
    if 0 < len(pictures) < len(cases):
        fewer = pictures if 2 * len(pictures) <= len(cases) else [case for case, facts in cases if not facts.picture]
        for case in fewer:
            yield Fault(case.name, f"cases must be volumes or pictures, all of them, got {case.images[0].name}")


def _of_all(cases: Sequence[tuple[Case, Facts]], listed: int) -> Iterator[Fault]:
    if listed < LEAST:
        yield Fault("", f"a data set must have {LEAST} cases or more, got {listed}; label more")
    foreground = [case for case, facts in cases if facts.labels]
    labelled, groups = {case.group for case in foreground}, {case.group for case, _ in cases}
    if cases and not foreground:
        yield Fault("", "label maps must have a label, got only 0 in all of them")
    elif len(foreground) == 1 and len(cases) > 1:
        yield Fault(foreground[0].name, "2 cases or more must have a label, got one; validation needs another")
    elif cases and len(groups) < 2 and listed >= LEAST:
        yield Fault("", f"cases must be of 2 groups or more, got {', '.join(groups)}; state another group")
    elif len(labelled) == 1 and listed >= LEAST:
        what = f"cases of 2 groups or more must have a label, got {', '.join(labelled)}; validation needs another"
        yield Fault("", what)


def _stated_folds(cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    """Find faults of folds that the data set states."""
    folds: dict[str, set[int]] = {}
    for case, _ in cases:
        if case.fold is not None:
            folds.setdefault(case.group, set()).add(case.fold)
    found = sorted(set().union(*folds.values()))
    if found and (found != list(range(len(found))) or len(found) < 2):
        yield Fault("", f"folds must be 0, 1, ..., 2 or more, with a case in each, got {found}; renumber them")
    for group, parted in folds.items():
        if len(parted) > 1:
            yield Fault("", f"cases of a group must share a fold, got {group} in {sorted(parted)}; correct the table")


def _rare_labels(dataset: Dataset, cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    found: dict[int, list[str]] = {value: [] for value in dataset.labels}
    for case, facts in cases:
        for value in facts.labels:
            found.setdefault(value, []).append(case.name)
    for value, names in sorted(found.items()):
        if len(names) < 2:
            name, where = dataset.labels.get(value, ""), names[0] if names else "none"
            words = f"{value} ({name})" if name else str(value)
            yield Fault(
                names[0] if names else "", f"a label should be in 2 cases or more, {words} is in {where}", WARNING
            )


def _doubtful_values(cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    """Find values that may be no labels: of interpolated or compressed masks, or of masks written in several ways."""
    voxels: Counter[int] = Counter()
    for _, facts in cases:
        voxels.update({value: shape.voxels for value, shape in facts.labels.items()})
    main = voxels.most_common(2)
    thin = float(np.median([facts.thin for _, facts in cases])) if cases else 0.0
    if len(voxels) >= BLURRED and thin >= THIN:
        shown = " and ".join(str(value) for value, _ in sorted(main))
        what = f"got {len(voxels)} values, mostly {shown}; were label maps interpolated, or saved with loss?"
        yield Fault("", f"every value of a label map is a label, {what}", WARNING)
    firsts = {next(iter(facts.labels)): case.name for case, facts in cases if len(facts.labels) == 1}
    if len(voxels) == len(firsts) > 1 and all(len(facts.labels) <= 1 for _, facts in cases):
        shown = ", ".join(f"{value} in {name}" for value, name in sorted(firsts.items()))
        what = f"got {shown} and so on; if they are one label, give it one value"
        yield Fault("", f"different values are different labels, {what}", WARNING)


def _colours(cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    """Find palette pictures that give a value another colour than those before."""
    first: dict[int, tuple[str, tuple[int, int, int]]] = {}
    for case, facts in cases:
        for value, colour in facts.colours.items():
            name, other = first.setdefault(value, (case.name, colour))
            if colour != other:
                what = f"{value} is {colour}, and {other} in {name}; is it another label? Values count, colours do not"
                yield Fault(case.name, f"a label should have one colour in all palettes, {what}", WARNING)
                break


def _spacings(cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    volumes = [(case, facts) for case, facts in cases if not facts.picture]
    if not volumes:
        return
    median = np.median([facts.spacing for _, facts in volumes], axis=0)
    for case, facts in volumes:
        factor = np.maximum(np.array(facts.spacing) / median, median / np.array(facts.spacing)).max()
        if factor > OUTLIER:
            mine, all_ = (" x ".join(f"{mm:.3g}" for mm in each) for each in (facts.spacing, median))
            yield Fault(case.name, f"spacing is {mine} mm, {factor:.1f} times off the median {all_}; check it", WARNING)


def _units(dataset: Dataset, cases: Sequence[tuple[Case, Facts]], stated: Sequence[str]) -> Iterator[Fault]:
    """Find CT that is not in Hounsfield units, by its lowest intensities; stated: modalities, one or per channel."""
    for number in range(min((len(facts.channels) for _, facts in cases), default=0)):
        lows = [facts.channels[number].lowest for _, facts in cases]
        name = dataset.channels[number] if number < len(dataset.channels) else ""
        name = stated[min(number, len(stated) - 1)] if stated else name
        if np.median(lows) <= AIR and modality_of(name) in ("CT", None):
            for (case, _), lowest in zip(cases, lows, strict=True):
                if lowest > AIR / 2:
                    what = f"the lowest intensity is {lowest:g}, in most cases {np.median(lows):g} or so"
                    yield Fault(case.name, f"{what}; was it stored with an offset?", WARNING)
        elif modality_of(name) == "CT" and min(lows) >= 0:
            what = f"CT should be in Hounsfield units, about -1000 in air, got {min(lows):g} or more"
            yield Fault("", f"{what}; was it stored with an offset? Plan on values as you will segment them", WARNING)


def _twice(cases: Sequence[tuple[Case, Facts]]) -> Iterator[Fault]:
    first: dict[object, Case] = {}
    for case, facts in cases:
        for what, key in (("an image", facts.voxels), ("a label map", case.label.resolve())):
            other = first.setdefault(key, case)
            if other is not case:
                leak = "" if other.group == case.group else "; both groups go into one fold, or they would leak"
                yield Fault(case.name, f"{what} should be there once, got that of {other.name} again{leak}", WARNING)


def _united(cases: Sequence[tuple[Case, Facts]]) -> tuple[tuple[Case, Facts], ...]:
    """Merge groups that share an image or a label map."""
    home: dict[str, str] = {}
    first: dict[object, str] = {}

    def find(group: str) -> str:
        while (other := home.get(group, group)) != group:
            group = other
        return group

    for case, facts in cases:
        for key in (facts.voxels, case.label.resolve()):
            one, two = sorted((find(case.group), find(first.setdefault(key, case.group))))
            home[two] = one
    return tuple((replace(case, group=find(case.group)), facts) for case, facts in cases)
