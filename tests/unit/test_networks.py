"""The grid: shapes, depths, pruning, gradients, exports, determinism, memory."""

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from unetpp_monai.networks import UNetPlusPlus

VARIANTS = {
    "default": {},
    "residual": {"block": "residual"},
    "attention": {"attention": True},
    "interp": {"upsample": "interp"},
    "pixelshuffle": {"upsample": "pixelshuffle"},
    "group": {"norm": ("group", {"num_groups": 2}), "act": "swish"},
    "floor": {"ceil_mode": False},
    "dropout": {"dropout": 0.3},
}


def build(dims=2, levels=4, **options):
    return UNetPlusPlus(dims, 2, 3, [4 * 2**level for level in range(levels)], **options).eval()


@pytest.mark.parametrize("size", [(1, 1, 1), (16, 16, 16), (5, 7, 9), (17, 1, 12)])
@pytest.mark.parametrize("levels", [2, 3, 5])
@pytest.mark.parametrize("dims", [2, 3])
def test_any_size_and_number_of_levels(dims, levels, size):
    network = build(dims, levels)
    for depth, logits in enumerate(network.heads(torch.rand(2, 2, *size[:dims])), 1):
        assert logits.shape == (2, 3, *size[:dims]), depth
        assert torch.isfinite(logits).all()


@pytest.mark.parametrize("strides", [2, 3, [(1, 2, 2), (2, 2, 2), (2, 1, 3)]])
@pytest.mark.parametrize("upsample", ["deconv", "interp", "pixelshuffle"])
def test_anisotropic_strides_and_kernels(strides, upsample):
    network = build(3, 4, strides=strides, kernel_size=[(1, 3, 3), 3, 5, 3], upsample=upsample)
    assert network(torch.rand(1, 2, 6, 13, 10)).shape == (1, 3, 6, 13, 10)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("dims", [2, 3])
def test_every_depth_is_a_prefix(dims, options):
    """Heads in one pass, run-time depth, the anytime form and the pruned network give the same logits."""
    network = build(dims, **options)
    images = torch.randn(2, 2, *(11, 13, 9)[:dims])
    with torch.no_grad():
        heads = network.heads(images)
        for depth, (logits, early) in enumerate(zip(heads, network.anytime(images), strict=True), 1):
            pruned = network.prune(depth)
            assert torch.equal(network(images, depth=depth), logits)
            assert torch.equal(early, logits)
            assert (pruned(images) - logits).abs().max() <= 1e-5
            assert all(sum(map(int, name.split("_")[1:])) <= depth for name in pruned.nodes)
            assert pruned.depth == depth and len(pruned.heads(images)) == depth
    assert network.depth == 3  # pruning leaves the original as it was


def test_deeper_nodes_are_not_computed():
    network = build()
    seen = []
    for name, node in network.nodes.items():
        node.register_forward_hook(lambda *_, name=name: seen.append(name))
    network(torch.rand(1, 2, 16, 16), depth=2)
    assert seen == ["x_0_0", "x_1_0", "x_0_1", "x_2_0", "x_1_1", "x_0_2"]
    seen.clear()
    steps = network.anytime(torch.rand(1, 2, 16, 16))
    next(steps)
    assert seen == ["x_0_0", "x_1_0", "x_0_1"]


def test_depth_given_when_built():
    full, shallow = build(), build(depth=2)
    state = {key: value for key, value in full.state_dict().items() if key in shallow.state_dict()}
    shallow.load_state_dict(state)
    images = torch.rand(1, 2, 16, 16)
    assert torch.equal(shallow(images), full(images, depth=2))


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_gradient_reaches_every_parameter(options):
    network = build(**options).train()
    logits = network(torch.rand(2, 2, 24, 24))
    assert isinstance(logits, list) and len(logits) == 3
    sum(head.square().mean() for head in logits).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_training_returns_the_final_head_first():
    network = build(norm="batch").train()
    images = torch.rand(2, 2, 16, 16)
    with torch.no_grad():
        heads = network(images)
        assert torch.equal(heads[0], network.heads(images)[-1])
        assert torch.equal(heads[-1], network.heads(images)[0])
        network.deep_supervision = False
        assert torch.is_tensor(network(images))


def test_checkpointing_gives_the_same_gradients():
    images = torch.rand(1, 2, 16, 16)
    gradients = []
    for checkpointing in (False, True):
        network = build(checkpointing=checkpointing).train()
        network(images)[0].square().mean().backward()
        gradients.append(network.nodes["x_0_0"].block.conv_0.conv.weight.grad)
    torch.testing.assert_close(*gradients)


def test_initialisation_is_seeded_he_and_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    one, same, other = build(levels=5), build(levels=5), build(levels=5, seed=1)
    assert torch.equal(torch.rand(4), expected)
    for key, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    assert not torch.equal(one.nodes["x_1_0"].block.conv_0.conv.weight, other.nodes["x_1_0"].block.conv_0.conv.weight)
    weight = one.nodes["x_4_0"].block.conv_1.conv.weight
    assert weight.std().item() == pytest.approx((2 / ((1 + 0.01**2) * weight[0].numel())) ** 0.5, rel=0.02)
    assert not one.nodes["x_4_0"].block.conv_1.conv.bias.any()


@pytest.mark.parametrize(
    ("dims", "name"), [(2, "default"), (3, "default"), (3, "residual"), (2, "attention"), (3, "pixelshuffle")]
)
def test_script_and_trace_agree_with_eager(dims, name):
    network, images = build(dims, 3, **VARIANTS[name]), torch.rand(2, 2, *(16, 24, 16)[:dims])
    other = torch.rand(1, 2, *(11, 13, 9)[:dims])
    with torch.no_grad():
        scripted = torch.jit.script(network)
        traced = torch.jit.trace(network, images)
        file = io.BytesIO()
        torch.jit.save(scripted, file)
        file.seek(0)
        loaded = torch.jit.load(file)
    assert str(scripted.forward.schema.returns[0].type) == "Tensor"
    for batch in (images, other):
        with torch.no_grad(), torch.jit.optimized_execution(False):  # specialising each shape takes seconds
            torch.testing.assert_close(loaded(batch), network(batch))
            torch.testing.assert_close(traced(batch), network(batch))
            torch.testing.assert_close(loaded(batch, 1), network(batch, 1))


@pytest.mark.slow
def test_torch_export_with_dynamic_shapes():
    network, any_size = build(3), torch.export.Dim.DYNAMIC
    images = torch.rand(2, 2, 16, 24, 16)
    program = torch.export.export(network, (images,), dynamic_shapes=({axis: any_size for axis in (0, 2, 3, 4)},))
    other = torch.rand(3, 2, 32, 16, 48)  # multiples of 8, as the images it was exported with
    torch.testing.assert_close(program.module()(other), network(other))


@pytest.mark.slow
def test_onnx_agrees_with_eager(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, images = build(3), torch.rand(1, 2, 16, 24, 16)
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(network, (images,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(logits, network(images).detach().numpy(), atol=1e-4)


def test_compile_agrees_with_eager():
    """Traced by Dynamo without a graph break; Inductor's own code generation is not ours to test."""
    network, images = build(), torch.rand(1, 2, 16, 16)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(images), network(images))


def test_mixed_precision_and_channels_last():
    network, images = build(3), torch.rand(1, 2, 16, 16, 16)
    with torch.no_grad():
        expected = network(images)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(images)
        assert logits.dtype == torch.bfloat16
        assert (logits.float() - expected).abs().max() < 0.1 * expected.abs().max()
        last = network.to(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(
            last(images.to(memory_format=torch.channels_last_3d)), expected, atol=1e-4, rtol=1e-4
        )


def test_same_input_same_output():
    network, images = build(3), torch.rand(1, 2, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(images), network(images))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
@pytest.mark.slow
@pytest.mark.long
def test_memory_of_depth_1_is_less_than_of_full_depth():
    """Peak resident memory that a forward pass adds, each in a process of its own."""
    script = (
        "import re, sys, torch; from pathlib import Path\n"
        "from unetpp_monai.networks import UNetPlusPlus\n"
        "network = UNetPlusPlus(3, 1, 2, (16, 32, 64, 128)).eval()\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s*(\\d+) kB', Path('/proc/self/status').read_text())[1])\n"
        "with torch.no_grad():\n"
        "    network(torch.rand(1, 1, 8, 8, 8)); before = peak()\n"
        "    network(torch.rand(1, 1, 64, 64, 64), depth=int(sys.argv[1])); print(peak() - before)\n"
    )
    run = [sys.executable, "-c", script]
    shallow, deep = (int(subprocess.check_output([*run, str(depth)], text=True)) for depth in (1, 3))
    assert 0 < shallow < 0.8 * deep, (shallow, deep)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be one of 2, 3, got 1"),
        ({"features": (8,)}, "at least 2 levels"),
        ({"features": (8, 0)}, r"features\[1\] must be an integer >= 1, got 0"),
        ({"in_channels": 0}, "in_channels must be an integer >= 1, got 0"),
        ({"out_channels": 1.5}, "out_channels must be an integer >= 1, got 1.5"),
        ({"strides": (2, 2, 2)}, "strides must be one number or 2 entries, finest first, got 3"),
        ({"strides": (2, (2, 2, 2))}, r"strides\[1\] must be one number or 2 \(one per axis\)"),
        ({"kernel_size": 4}, "kernel_size must be odd"),
        ({"depth": 3}, "depth must be an integer from 1 to 2, got 3"),
        ({"depth": 0}, "depth must be an integer from 1 to 2, got 0"),
        ({"block": "dense"}, "block must be one of 'plain', 'residual', got 'dense'"),
        ({"upsample": "nearest"}, "upsample must be one of"),
        ({"dropout": 1.0}, "dropout must be a probability"),
        ({"up_features": (4,)}, "up_features must have 2 entries"),
        ({"final_head_only": True}, "deep_supervision needs every head"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UNetPlusPlus(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "features": (4, 8, 16), **arguments})


def test_wrong_batches_and_depths_are_named():
    network = build()
    with pytest.raises(ValueError, match=r"images must be \(B, 2, \+ 2 spatial axes\), got \[1, 3, 8, 8\]"):
        network(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="images must be"):
        network(torch.rand(1, 2, 8, 8, 8))
    with pytest.raises(ValueError, match="depth must be from 1 to 3, got 4"):
        network(torch.rand(1, 2, 8, 8), depth=4)
    with pytest.raises(ValueError, match="depth must be an integer from 1 to 3, got 0"):
        network.prune(0)
    with pytest.raises(ValueError, match="depth must be from 3 to 3, got 1"):
        build(deep_supervision=False, final_head_only=True)(torch.rand(1, 2, 8, 8), depth=1)


def test_weights_of_another_network_are_refused_even_where_nobody_is_strict():
    network = UNetPlusPlus(2, 1, 2, (4, 8, 16))
    weights = network.state_dict()
    assert not network.prune(1).load_state_dict(weights, strict=False).missing_keys  # deeper ones are left over
    with pytest.raises(RuntimeError, match="must hold every parameter"):
        network.load_state_dict({"state_dict": weights}, strict=False)
    with pytest.raises(RuntimeError, match="Missing key"):
        network.load_state_dict({})
