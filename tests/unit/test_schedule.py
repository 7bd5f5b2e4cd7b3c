"""Steps that fit into a time are counted once, and divided into epochs of one length."""

import pytest

from unetpp_monai.errors import InputError
from unetpp_monai.training import Measured, Schedule, schedule_of_steps, schedule_of_time


@pytest.mark.parametrize(
    ("steps", "usual", "schedule"),
    [
        (1000, 50, Schedule(20, 50, 1)),
        (10000, 50, Schedule(200, 50, 10)),  # twenty validations
        (60, 50, Schedule(20, 3, 1)),  # epochs are shorter, so that there are twenty
        (7, 50, Schedule(7, 1, 1)),
        (1, 1, Schedule(1, 1, 1)),
    ],
)
def test_steps_are_divided_into_epochs(steps, usual, schedule):
    assert schedule_of_steps(steps, usual) == schedule


@pytest.mark.parametrize("seconds", [60, 600, 7200, 86400])
@pytest.mark.parametrize("step", [0.01, 0.5, 4.0])
@pytest.mark.parametrize("case", [0.0, 0.1, 9.0])
def test_what_is_planned_fits_into_the_time_and_fills_it(seconds, step, case):
    cases = 28 if case else 0
    found = schedule_of_time(seconds, 50, Measured(step, case, cases, used=5.0))
    assert found.max_epochs % found.val_interval == 0  # the last epoch is validated
    validation = (found.val_cases or cases) * case
    validations = found.max_epochs // found.val_interval
    left = seconds * 0.95 - 5
    assert found.steps * step + validations * validation <= left
    assert found.steps * step + validations * validation >= 0.85 * left or left < 10 * (step + case)
    assert validations * validation <= max(0.15 * left, 8 * case) + 1e-6 and validations >= (3 if left > 100 else 1)


def test_some_cases_validate_where_all_would_take_too_long():
    found = schedule_of_time(2700, 50, Measured(1.5, 9.0, 28, 60.0))
    assert 4 <= found.val_cases <= 10
    assert schedule_of_time(86400, 50, Measured(1.5, 9.0, 28, 60.0)).val_cases == 0


def test_a_time_that_is_too_short_is_refused():
    with pytest.raises(InputError, match=r"a step \(2 s\), a validation case \(30 s\) and .* got 30 s") as told:
        schedule_of_time(30, 50, Measured(2.0, 30.0, 3, 5.0))
    assert told.value.option == "time"
    with pytest.raises(InputError, match="at least 1 step, got 0"):
        schedule_of_steps(0, 50)
