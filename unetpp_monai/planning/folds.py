"""Assign cases to folds: groups are never split, and labels are spread."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from ..errors import InputError
from ..words import counted
from .checking import Checked

FOLDS, FEW, OF_FEW = 5, 10, 3  # folds; with fewer than FEW cases, OF_FEW folds


def fold_count(groups: int, cases: int, stated: int) -> int:
    """Choose the number of folds.

    Args:
        groups: in the data set.
        cases: in the data set.
        stated: by the user; 0: chosen here.

    Raises:
        InputError: more folds than groups.
    """
    if stated > groups or stated == 1 or stated < 0:
        raise InputError(f"folds must be 2 to {groups}, the number of groups, got {stated}", option="folds")
    return stated or min(groups, FOLDS if cases >= FEW else OF_FEW)


def assign_folds(groups: Mapping[str, Sequence[frozenset[int]]], folds: int) -> dict[str, int]:
    """Assign groups to folds, spreading labels and balancing sizes.

    Args:
        groups: name -> labels of each of its cases.
        folds: number of folds.

    Returns:
        Name -> fold, from 0; deterministic.
    """
    frequency = Counter(label for cases in groups.values() for label in frozenset().union(*cases))
    labels = {name: frozenset().union(*cases) for name, cases in groups.items()}
    rarest = {name: sorted(found, key=lambda label: (frequency[label], label)) for name, found in labels.items()}

    def order(name: str) -> tuple[int, int, str]:
        least = min((frequency[label] for label in labels[name]), default=len(groups) + 1)
        return least, -len(groups[name]), hashlib.sha256(name.encode()).hexdigest()

    sizes, holds = [0] * folds, [Counter[int]() for _ in range(folds)]
    most = -(-sum(map(len, groups.values())) // folds)
    chosen: dict[str, int] = {}
    for name in sorted(groups, key=order):
        chosen[name] = min(
            range(folds),
            key=lambda fold: (
                sizes[fold] + len(groups[name]) > most and sizes[fold] > 0,
                [holds[fold][label] for label in rarest[name]],
                sizes[fold],
                fold,
            ),
        )
        sizes[chosen[name]] += len(groups[name])
        holds[chosen[name]].update(labels[name])
    return chosen


def choose_folds(checked: Checked, stated: int) -> tuple[dict[str, int], str]:
    """Assign each case to its stated fold, or to its group's.

    Args:
        checked: without errors.
        stated: number of folds; 0: chosen here.

    Returns:
        Case -> fold, from 0; and the reason as text.

    Raises:
        InputError: a number of folds that does not fit.
    """
    cases = checked.cases
    given = [case.fold for case, _ in cases if case.fold is not None]
    groups: dict[str, list[frozenset[int]]] = {}
    for case, facts in cases:
        groups.setdefault(case.group, []).append(frozenset(facts.labels))
    if given:
        if stated:
            raise InputError("folds must be stated once, got them in the table as well", option="folds")
        return {case.name: case.fold or 0 for case, _ in cases}, f"stated for {counted(len(given), 'case')}"
    folds = assign_folds(groups, fold_count(len(groups), len(cases), stated))
    return {
        case.name: folds[case.group] for case, _ in cases
    }, f"{counted(len(cases), 'case')} in {counted(len(groups), 'group')}"
