"""Ranges of a bundle's training cases, and what lies outside them."""

import json

import numpy as np
import pytest

from unetpp_monai.errors import BundleError, InputError
from unetpp_monai.labels import Label
from unetpp_monai.plausibility import Plausible, measure_ranges
from unetpp_monai.volume import Volume

LABELS = tuple(Label(index, name, None, None, (), None) for index, name in ((1, "organ"), (2, "tumour")))


def make_case(spacing=(1.0, 1.0, 2.0), shape=(20, 24, 12), seed=0, channels=1, offset=0.0, organ=4):
    array = np.random.default_rng(seed).gamma(2.0, size=(channels, *shape)) * 100 + offset
    labels = np.zeros((1, *shape), np.uint8)
    labels[0, :organ, :organ, :organ] = 1
    affine = np.diag([*spacing, 1.0])
    return Volume(array, affine), Volume(labels, affine)


def ranges_of(cases=10, modality="MR", **options):
    return measure_ranges([make_case(seed=seed, **options) for seed in range(cases)], [1, 2], modality=modality)


def implausible(ranges, image, organ=64):
    return ranges.implausible(image, {"organ": organ}, LABELS)


def test_cases_like_those_that_were_measured_are_plausible():
    ranges = ranges_of()
    for seed in range(100, 130):
        assert implausible(ranges, make_case(seed=seed)[0]) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": (0.001, 1, 2)}, "spacing to the right is 0.001 mm, expected"),
        ({"spacing": (1, 1, 20)}, "spacing to the superior is 20 mm, expected"),
        ({"shape": (20, 100, 12)}, "extent to the anterior is 100 mm, expected"),
        ({"shape": (20, 24, 2)}, "extent to the superior is 4 mm, expected"),
    ],
)
def test_other_geometry_is_said(changes, said):
    assert said in " ".join(implausible(ranges_of(), make_case(seed=99, **changes)[0]))


def test_axes_are_those_of_the_patient_not_of_the_file():
    image, _ = make_case(seed=99)
    turned = np.zeros((4, 4))
    turned[[2, 0, 1, 3], [0, 1, 2, 3]] = [-2.0, 1.0, 1.0, 1.0]  # the first axis of the file points down
    stored = Volume(image.array.transpose(0, 3, 1, 2)[:, ::-1], turned)
    assert implausible(ranges_of(), stored) == ()
    assert "spacing to the right" in " ".join(implausible(ranges_of(), Volume(stored.array, turned[[2, 1, 0, 3]])))


def test_intensities_of_mr_have_no_unit_and_those_of_ct_do():
    image = make_case(seed=99)[0]
    scaled = Volume(image.array * 7 + 3000, image.affine)
    assert implausible(ranges_of(), scaled) == ()
    assert implausible(ranges_of(modality="CT"), image) == ()
    assert "intensity at 50 % is" in " ".join(implausible(ranges_of(modality="CT"), scaled))
    noise = Volume(np.random.default_rng(0).normal(size=image.array.shape), image.affine)
    assert "deviations from the mean" in " ".join(implausible(ranges_of(), noise))


def test_every_channel_is_looked_at():
    image = make_case(seed=99, channels=2)[0]
    ranges = ranges_of(channels=2)
    assert implausible(ranges, image) == ()
    wrong = Volume(np.stack([image.array[0], -image.array[1]]), image.affine)
    found = implausible(ranges, wrong)
    assert found and all("of channel 1" in reason for reason in found)


@pytest.mark.parametrize("organ", [0, 3, 1000])
def test_a_label_that_is_missing_or_of_another_size_is_said(organ):
    found = implausible(ranges_of(), make_case(seed=99)[0], organ=organ)
    assert len(found) == 1 and found[0].startswith(f"volume of organ is {organ * 2 / 1000:.4g} mL, expected ")


def test_a_label_that_some_cases_lack_may_be_missing():
    cases = [make_case(seed=seed, organ=organ) for seed, organ in enumerate([0, 4, 5, 6])]
    ranges = measure_ranges(cases, [1], modality="MR")
    assert ranges.volume["1"][0] == 0
    assert ranges.implausible(make_case(seed=9)[0], {"organ": 0}, LABELS[:1]) == ()


def test_pictures_have_pixels():
    cases = [make_case(seed=seed, shape=(64, 48, 1), channels=3) for seed in range(8)]
    ranges = measure_ranges(cases, [1], modality="other", spatial_dims=2)
    assert not ranges.spacing and not ranges.extent and not ranges.volume and set(ranges.share) == {"1"}
    larger = make_case(seed=99, shape=(640, 480, 1), channels=3)[0]
    assert ranges.implausible(larger, {"organ": 1600}, LABELS) == ()
    assert "share of organ is 0.9" in " ".join(ranges.implausible(larger, {"organ": 276480}, LABELS))


def test_few_cases_leave_more_room():
    few, many = ranges_of(2).extent[0], ranges_of(50).extent[0]
    assert few[0] < many[0] < 20 < many[1] < few[1]


def test_ranges_are_written_and_read():
    ranges = ranges_of()
    stated = json.loads(json.dumps(ranges.to_json()))
    again = Plausible.from_json(stated)
    assert again.to_json() == stated and again.cases == 10 and not again.absolute
    assert implausible(again, make_case(seed=99)[0]) == ()
    with pytest.raises(InputError, match="got none"):
        measure_ranges([], [1], modality="MR")


@pytest.mark.parametrize(
    "stated",
    [
        {},
        {"cases": 1, "spacing": [[2, 1]]},
        {"cases": 1, "spacing": [[1, float("nan")]]},
        {"cases": 1, "extent": 5},
        {"cases": 1, "volume": {"1": ["a", "b"]}},
        {"cases": 1, "volumes": {}},
        {"cases": "many"},
        [],
    ],
)
def test_what_is_no_range_is_refused(stated):
    with pytest.raises(BundleError, match="plausible must hold the ranges"):
        Plausible.from_json(stated)
