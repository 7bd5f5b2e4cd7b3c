"""Formulas of a plan, with worked examples; each follows its inputs."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from unetpp_monai.errors import InputError
from unetpp_monai.memory import GIB
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.planning import Checked, Dataset
from unetpp_monai.planning import budget as budgets
from unetpp_monai.planning.budget import Budget, Shape, memory_budget, network_costs, peak_bytes
from unetpp_monai.planning.dataset import Case, sided_labels
from unetpp_monai.planning.decision import Choices
from unetpp_monai.planning.decisions import decide
from unetpp_monai.planning.examine import Channel, Facts
from unetpp_monai.planning.folds import assign_folds, fold_count
from unetpp_monai.planning.label_maps import LabelShape
from unetpp_monai.planning.planner import Options, check_options
from unetpp_monai.planning.topology import Topology, fit_patch, median_spacing, pooling
from unetpp_monai.task import base_config

ISOTROPIC = {levels: Topology(((2, 2, 2),) * levels, ((3, 3, 3),) * (levels + 1)) for levels in (2, 3, 4)}
SMALL, LARGE = Budget(2, "as stated", gpu=False), Budget(8, "as stated", gpu=True)


def made_facts(shape=(100, 90, 80), spacing=(1.0, 1.0, 1.0), *, lowest=0.0, whole=True, zeros=0.0, **others):
    rng = np.random.default_rng(0)
    channel = Channel(lowest, 300.0, whole, zeros, rng.normal(100, 20, 2000).astype(np.float32))
    extent = tuple(mm * size / 2 for mm, size in zip(spacing, shape, strict=True))
    label = LabelShape(1000, extent, (30.0, 20.0))
    facts = Facts(False, shape, spacing, (channel,), {1: label}, extent, shape, False, "", {}, {})
    return replace(facts, **others)


def made(facts, channels=("T1",), labels=None):
    labels = labels or {1: "organ"}
    found = facts if isinstance(facts, list) else [facts] * 12
    cases = [(Case(f"case{at:02d}", (), "", group=f"case{at:02d}"), each) for at, each in enumerate(found)]
    listed = tuple(case for case, _ in cases)
    return Checked(Dataset("made", ".", listed, "", channels, labels), tuple(cases), (), (0, *labels))


def values(checked, budget=SMALL, **choices):
    return decide(checked, Choices(budget, **choices)).values


def test_spacing_is_the_median_except_along_thick_slices():
    assert median_spacing([(0.7, 0.7, 4)] * 5, [(96, 96, 16)] * 5) == (0.7, 0.7, 4.0)
    thick = [(0.7, 0.7, mm) for mm in (2.0, 4.0, 4.0, 5.0, 5.0)]
    assert median_spacing(thick, [(300, 300, 20)] * 5) == (0.7, 0.7, 2.8)  # 10th percentile
    assert median_spacing([(0.7, 0.7, mm) for mm in (0.1, 4, 4)], [(300, 300, 20)] * 3)[2] >= 0.7
    assert median_spacing([(0.7, 0.7, 4)] * 3 + [(0.7, 0.7, 1)] * 2, [(96, 96, 60)] * 5) == (0.7, 0.7, 4.0)


def test_thick_slices_are_neither_pooled_nor_convolved_at_first():
    found = pooling((0.7, 0.7, 4), (96, 96, 16))
    assert found.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2))
    assert found.kernels == ((3, 3, 1), (3, 3, 1), (3, 3, 3), (3, 3, 3), (3, 3, 3))
    assert found.divisors == (16, 16, 4)
    assert pooling((0.8, 0.8, 2.5), (96, 80, 32)).strides[0] == (2, 2, 1)


def test_isotropic_images_are_halved_while_8_voxels_are_left():
    assert pooling((1, 1, 1), (48, 56, 48)) == ISOTROPIC[3]
    assert pooling((1, 1, 1), (200, 200, 200)) == ISOTROPIC[4]  # no deeper: nodes grow as the square
    assert len(pooling((1, 1), (1000, 1000)).strides) == 5


@pytest.mark.parametrize(("width", "levels", "measured"), [(16, 2, 1322), (16, 3, 1988), (16, 4, 2740), (32, 3, 3935)])
def test_bytes_a_voxel_are_those_that_were_measured(width, levels, measured):
    found, _ = network_costs(Shape(3, 1, 3, width, half=False), ISOTROPIC[levels])
    assert found == pytest.approx(measured, rel=0.02)


def test_counting_agrees_with_a_real_pass_and_real_parameters():
    import torch

    shape, topology = Shape(3, 2, 3, 8, half=False), Topology(((2, 2, 1), (2, 2, 2)), ((3, 3, 1), (3, 3, 3), (3, 3, 3)))
    options = {"strides": topology.strides, "kernel_size": topology.kernels}
    network = UNetPlusPlus(3, 2, 3, shape.features(topology), **options).train()
    own, kept = {parameter.data_ptr() for parameter in network.parameters()}, {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.rand(1, 2, 16, 16, 8))
    real = sum(tensor.untyped_storage().nbytes() for key, tensor in kept.items() if key not in own)
    per_voxel, parameters = network_costs(shape, topology)
    assert per_voxel == pytest.approx(real / (16 * 16 * 8), rel=0.02)
    assert parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("gib", [2, 4, 8, 24])
def test_a_large_image_uses_half_of_the_memory_or_more_and_not_more_than_there_is(gib):
    budget = Budget(gib, "as stated", gpu=False)
    checked = made(made_facts((500, 500, 400)))
    plan = values(checked, budget)
    levels = len(plan["features"])
    strides = plan.get("strides", [[2] * 3] * (levels - 1))
    topology = Topology(tuple(map(tuple, strides)), ((3, 3, 3),) * levels)
    shape = Shape(3, 1, 2, plan["features"][0], half=False)
    peak = peak_bytes(shape, topology, plan["batch_size"] * math.prod(plan["patch_size"]))
    assert 0.5 * gib * GIB <= peak <= 0.8 * gib * GIB
    assert plan["features"][0] == (32 if gib >= 10 else 16)


def test_the_patch_is_a_cube_in_mm_cut_to_the_image():
    peak = lambda topology, patch: math.prod(patch)  # noqa: E731 - a byte a voxel
    patch, _ = fit_patch((1, 1, 1), (300, 300, 300), peak, 64**3)
    assert max(patch) <= 1.34 * min(patch) and 0.6 * 64**3 <= math.prod(patch) <= 64**3
    patch, topology = fit_patch((1, 1, 10), (200, 210, 10), peak, 1e9)
    assert patch == (208, 224, 10) and all(
        size % step == 0 for size, step in zip(patch, topology.divisors, strict=True)
    )
    assert fit_patch((1, 1, 10), (200, 210, 10), peak, 64 * 64 * 10)[0][2] >= 8
    with pytest.raises(InputError, match="memory must suffice"):
        fit_patch((1, 1, 1), (300, 300, 300), peak, 100)
    with pytest.raises(InputError, match="8 voxels or more"):
        fit_patch((1, 1, 1), (6, 6, 6), peak, 1e9)


def test_a_patch_loses_a_little_of_an_image_rather_than_being_padded_without_a_gpu():
    peak = lambda topology, patch: math.prod(patch)  # noqa: E731 - a byte a voxel
    image = (36.0, 50.0, 35.0)
    assert fit_patch((1, 1, 1), image, peak, 1e9)[0] == (40, 56, 40)
    assert fit_patch((1, 1, 1), image, peak, 1e9, 7 / 8)[0] == (32, 48, 32)
    assert fit_patch((1, 1, 1), (36.7, 50, 35), peak, 1e9, 7 / 8)[0] == (40, 48, 32)  # 32 would be less than 7/8
    sizes = [fit_patch((1, 1, 1), (size, size, size), peak, 1e9, 7 / 8)[0][0] for size in range(8, 200)]
    assert all(patch >= 7 / 8 * size for size, patch in enumerate(sizes, 8)) and min(sizes) == 8
    checked = made(made_facts((36, 50, 35)))
    assert values(checked)["patch_size"] == values(checked)["roi_size"] == [32, 48, 32]
    assert values(checked, LARGE)["patch_size"] == [40, 56, 40]


def test_a_window_that_sees_too_little_gets_coarser_voxels_unless_detail_would_go():
    large = made_facts((400, 400, 400))
    organ = replace(large, labels={1: LabelShape(10**7, (300.0,) * 3, (250.0,))}, extent=(300.0,) * 3)
    lesion = replace(large, labels={1: LabelShape(9, (300.0,) * 3, (2.6,))}, extent=(300.0,) * 3)
    coarse, fine = values(made(organ)), values(made(lesion))
    assert coarse["pixdim"][0] > 1.5 and fine["pixdim"] == [1.0] * 3
    assert values(made(organ), spacing=(1.0, 1.0, 1.0))["pixdim"] == [1.0] * 3
    reasons = {decision.key: decision.rule for decision in decide(made(lesion), Choices(SMALL)).decisions}
    assert "not coarsened" in reasons["pixdim"]
    cord = made_facts(
        (200, 200, 500), labels={1: LabelShape(40000, (12.0, 60.0, 400.0), (42.0,))}, extent=(12, 60, 400)
    )
    assert values(made(cord))["pixdim"][0] * 4 <= 12
    slab = replace(organ, shape=(1000, 1000, 5), inner=(1000, 1000, 5), extent=(600.0, 600.0, 5.0))
    flat = values(made(slab))
    assert flat["pixdim"][2] == 1 and flat["patch_size"][2] >= 5 and flat["pixdim"][0] > 1.5
    for gpu, share in ((False, 1 / 2), (True, 1 / 4)):
        found = values(made(organ), Budget(2, "as stated", gpu=gpu))
        covered = np.prod(np.array(found["patch_size"]) * found["pixdim"]) / 400**3
        assert share <= covered < 1.3 * share, (gpu, covered)


@pytest.mark.parametrize(
    ("text", "gib"), [("8GiB", 8), ("1.5 gib", 1.5), ("512MiB", 0.5), ("8", None), ("0GiB", None), ("much", None)]
)
def test_memory_is_an_amount(text, gib):
    if gib is None:
        with pytest.raises(InputError, match="8GiB"):
            memory_budget(text)
    else:
        assert memory_budget(text).gib == gib


@pytest.mark.parametrize(
    ("total", "gib"),
    [(139.7, 80), (79.1, 80), (23.5, 24), (22.8, 16), (11.9, 12), (7.6, 4), (7.7, 8), (1.9, 1.9), (1.95, 2)],
)
def test_memory_of_a_gpu_is_rounded_down_to_a_usual_size(monkeypatch, total, gib):
    """Cards have a little less than they are sold with, which counts as the size they are sold with."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    properties = SimpleNamespace(total_memory=total * GIB)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: properties)
    budget = memory_budget("auto")
    assert (budget.gib, budget.gpu) == (pytest.approx(gib), True) and "GPU" in budget.source


@pytest.mark.parametrize(("installed", "gib"), [(64, 2), (2.1, 2), (1.9, 1.9), (1, 1), (None, None)])
def test_memory_without_a_gpu_is_2_gib_at_most(monkeypatch, installed, gib):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(budgets, "installed_memory", lambda: installed and int(installed * GIB))
    if gib is None:
        with pytest.raises(InputError, match="must be stated on this system") as raised:
            memory_budget("AUTO")
        assert raised.value.option == "memory"
    else:
        budget = memory_budget("auto")
        assert (budget.gib, budget.gpu) == (pytest.approx(gib), False) and "at most 2 GiB" in budget.source


def test_hounsfield_units_are_clipped_by_their_name_or_by_air():
    by_name = values(made(made_facts(), channels=("CT",)))["intensity"]
    by_air = values(made(made_facts(lowest=-1024.0), channels=()))["intensity"]
    assert by_name == by_air and by_name[0]["kind"] == "clip"
    sample = made_facts().channels[0].foreground.astype(np.float64)
    rule = by_name[0]
    normalised = (np.clip(sample, rule["lower"], rule["upper"]) - rule["mean"]) / rule["std"]
    assert abs(normalised.mean()) < 1e-3 and abs(normalised.std() - 1) < 1e-3
    assert rule["lower"] == pytest.approx(np.percentile(sample, 0.5), rel=1e-5)


def test_numbers_below_0_are_asked_about():
    unclear = made(made_facts(lowest=-200.0), channels=())
    with pytest.raises(InputError, match="-200 in channel 0") as raised:
        values(unclear)
    assert raised.value.option == "modality"
    assert values(unclear, modality="mr")["intensity"] == []
    assert values(unclear, modality="ct")["intensity"][0]["kind"] == "clip"
    assert values(made(made_facts(lowest=-0.2, whole=False), channels=()))["intensity"] == []
    with pytest.raises(InputError, match="-1024 in channel 0"):  # resampled
        values(made(made_facts(lowest=-1024.0, whole=False), channels=()))
    for word in ("banana", "ct,mr"):
        with pytest.raises(InputError, match=f"{word!r}"):
            values(unclear, modality=word)


def test_mr_with_much_background_is_normalised_by_what_is_not_0():
    assert values(made(made_facts(zeros=0.4)))["intensity"] == [{"kind": "zscore", "mask": "nonzero"}]
    assert values(made(made_facts(zeros=0.1)))["intensity"] == []


def test_what_is_0_is_cut_off_only_where_no_label_is():
    half = made_facts(inner=(50, 90, 80))
    assert values(made(half))["crop_foreground"] is True
    assert values(made([replace(half, cuts_labels=True), *[half] * 11]))["crop_foreground"] is False
    assert values(made(replace(half, channels=made_facts(lowest=-5.0).channels)))["crop_foreground"] is False
    assert values(made(made_facts()))["crop_foreground"] is False


def test_labels_with_sides_are_not_mirrored():
    kidney = {1: "Kidney_L"}
    assert values(made(made_facts()))["flip_axes"] == [0]
    assert values(made(made_facts(), labels=kidney))["flip_axes"] == []
    assert values(made(made_facts()), LARGE)["flip_axes"] == [0, 1, 2]
    assert values(made(made_facts(), labels=kidney), LARGE)["flip_axes"] == [1, 2]
    found = sided_labels(dict(enumerate(("left atrium", "L_kidney", "kidney R", "liver", "Lung", "ulna", "cleft"))))
    assert found == ["left atrium", "L_kidney", "kidney R", "cleft"]  # better one too many


def test_flat_patches_turn_within_their_plane():
    checked = made(made_facts((200, 200, 12), (1.0, 1.0, 8.0)))
    flat = values(checked, LARGE)
    assert flat["rotate_range"] == [0.0, 0.0, round(math.pi, 4)] and flat["scale_range"] == [0.25, 0.25, 0.0]
    assert flat["strides"][0] == [2, 2, 1] and flat["kernel_size"][0] == [3, 3, 1]
    flat = values(checked)
    assert flat["rotate_range"] == [0.0, 0.0, 0.2] and flat["scale_range"] == [0.12, 0.12, 0.0]


def test_short_trainings_of_volumes_change_them_less():
    short, long = values(made(made_facts())), values(made(made_facts()), LARGE)
    assert short["rotate_range"] == [0.2] * 3 and short["scale_range"] == [0.12] * 3
    assert long["rotate_range"] == [0.5] * 3 and long["scale_range"] == [0.25] * 3


def test_a_stated_time_is_the_tasks():
    assert values(made(made_facts()), time="2h")["max_time"] == "2h" and "max_time" not in values(made(made_facts()))


def test_heads_are_weighed_by_halves_and_as_many_as_there_are_steps():
    plan = values(made(made_facts((40, 56, 40))))
    assert plan["head_weights"] == [0.5714, 0.2857, 0.1429] and len(plan["features"]) == 4
    assert plan["patch_size"] == plan["roi_size"] == [40, 56, 40]
    assert "strides" not in plan and "kernel_size" not in plan


def test_the_usual_strides_and_kernels_are_decisions_that_the_base_has():
    decided = decide(made(made_facts((40, 56, 40))), Choices(SMALL))
    usual = {decision.key: decision.value for decision in decided.decisions if decision.usual}
    assert usual == {key: base_config("train")[key] for key in ("strides", "kernel_size")}
    assert not usual.keys() & decided.values.keys()


def test_pictures_have_pixels():
    facts = made_facts((256, 320), (1.0, 1.0), picture=True)
    plan = values(made(facts, channels=("red",)))
    assert plan["pixdim"] == [1.0, 1.0] and plan["spatial_dims"] == 2 and plan["flip_axes"] == [0, 1]
    assert plan["rotate_range"] == [0.5] and len(plan["patch_size"]) == 2
    with pytest.raises(InputError, match="pictures have pixels and no spacing"):
        values(made(facts), spacing=(1.0, 1.0, 1.0))


def test_groups_stay_whole_and_each_label_is_in_as_many_folds_as_it_has_groups():
    groups = {f"p{at:02d}": [frozenset({1}), frozenset({1})] for at in range(20)}
    groups |= {f"p{at:02d}": [frozenset({1, 3}), frozenset({1})] for at in (0, 1, 2, 19)}  # label 3 in 4 groups
    folds = assign_folds(groups, 5)
    assert len({folds[f"p{at:02d}"] for at in (0, 1, 2, 19)}) == 4
    assert sorted(list(folds.values()).count(fold) for fold in range(5)) == [4] * 5
    assert folds == assign_folds(dict(reversed(groups.items())), 5)


def test_folds_are_5_or_3_of_few_or_as_stated():
    assert [fold_count(groups, groups, 0) for groups in (4, 9, 10, 200)] == [3, 3, 5, 5]
    assert fold_count(2, 40, 0) == 2 and fold_count(10, 10, 4) == 4
    for stated in (1, 11, -1):
        with pytest.raises(InputError, match="2 to 10"):
            fold_count(10, 10, stated)


def test_stated_folds_are_kept():
    checked = made(made_facts())
    cases = [(replace(case, fold=at % 3), facts) for at, (case, facts) in enumerate(checked.cases)]
    found = decide(replace(checked, cases=tuple(cases)), Choices(SMALL))
    assert found.values["num_folds"] == 3 and found.folds["case04"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"time": "0h"}, "time must be such as"),
        ({"time": "1d"}, "time must be such as"),
        ({"memory": "1KiB"}, "memory must be auto or"),
        ({"spacing": (math.nan, 1.0, 1.0)}, "3 numbers > 0"),
        ({"spacing": (math.inf, 1.0, 1.0)}, "3 numbers > 0"),
        ({"spacing": (1.0, 1.0)}, "3 numbers > 0"),
        ({"modality": "mr,xyz"}, "modality must be one of"),
        ({"folds": 1}, "folds must be 2 or more"),
    ],
)
def test_options_are_refused_before_any_case_is_read(options, said):
    check_options(Options(time="90m", memory="800 MiB", modality="ct"))
    with pytest.raises(InputError, match=said):
        check_options(Options(**options))


@pytest.mark.parametrize("spacing", [(1e9, 1.0, 1.0), (1e9, 1e9, 1e9), (1e-6, 1.0, 1.0), (0.001, 0.001, 0.001)])
def test_a_spacing_of_another_unit_is_refused(spacing):
    with pytest.raises(InputError, match="spacing must leave 1 to") as raised:
        decide(made(made_facts()), Choices(SMALL, spacing=spacing))
    assert raised.value.option == "spacing"


def test_every_decision_says_its_rule_its_input_and_another_way():
    for decision in decide(made(made_facts((200, 200, 12), (1.0, 1.0, 8.0))), Choices(SMALL)).decisions:
        assert decision.rule and decision.inputs and decision.override, decision.key


def test_prompts_are_a_tenth_of_the_smallest_label_or_one_and_a_half_voxels():
    labels = {1: LabelShape(1000, (50.0,) * 3, (46.0, 5.0)), 2: LabelShape(1000, (50.0,) * 3, (60.0,))}
    both = {1: "organ", 2: "other"}
    found = values(made(made_facts(labels=labels), labels=both), interactive=True)
    assert (found["prompt_radius"], found["prompt_reach"]) == pytest.approx((4.6, 3.3 * 4.6))
    labels[1] = LabelShape(10, (3.0,) * 3, (3.0,))
    assert values(made(made_facts(labels=labels), labels=both), interactive=True)["prompt_radius"] == pytest.approx(1.5)
