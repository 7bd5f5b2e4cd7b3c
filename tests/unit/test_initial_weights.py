"""What fits of other weights is taken, what does not is said, and weights of another network are refused."""

import logging
import zipfile

import pytest
import torch

from unetpp_monai.errors import AmbiguityError, BundleError, InputError
from unetpp_monai.networks import UNetPlusPlus
from unetpp_monai.training.initial_weights import (
    InitialWeights,
    fit_weights,
    read_weights,
    weights_digest,
    weights_file,
)
from unetpp_monai.words import counted


def network(channels=1, labels=3, features=(4, 8, 8), seed=0, **options):
    torch.manual_seed(seed)
    return UNetPlusPlus(2, channels, labels, features, deep_supervision=True, **options)


def saved(path, net):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), path)
    return path


def begun(path, net, caplog):
    with caplog.at_level(logging.INFO, logger="unetpp_monai.training.initial_weights"):
        InitialWeights(path, net)()
    return caplog.messages[-1]


def test_the_same_network_takes_everything(tmp_path, caplog):
    given, net = network(seed=1), network()
    assert begun(saved(tmp_path / "w.pt", given), net, caplog).endswith("all fit")
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in given.state_dict().items())


def test_heads_of_other_labels_are_new(tmp_path, caplog):
    given, net = network(labels=2, seed=1), network(labels=3)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    said = begun(saved(tmp_path / "w.pt", given), net, caplog)
    assert "heads of 2 labels instead of 3, background included: new" in said and "node" not in said
    for name, value in net.state_dict().items():
        expected = before if name.startswith("outputs.") else given.state_dict()
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize(("before", "now", "how"), [(1, 3, "repeated and divided"), (3, 1, "summed")])
def test_images_whose_channels_are_alike_give_what_they_gave(tmp_path, caplog, before, now, how, block):
    given, net = network(before, seed=1, block=block).eval(), network(now, block=block).eval()
    said = begun(saved(tmp_path / "w.pt", given), net, caplog)
    assert f"first convolution of {counted(before, 'channel')} instead of {now}: {how}" in said
    image = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        there, here = (each(image.repeat(1, count, 1, 1)) for each, count in ((given, before), (net, now)))
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)


def test_which_of_several_channels_is_which_is_not_guessed():
    given, own = network(2).state_dict(), network(3).state_dict()
    fitted = fit_weights(given, own)
    name = "nodes.x_0_0.block.conv_0.conv.weight"
    assert name not in fitted.state and 0.9 < fitted.share < 1
    assert fitted.notes == ("nodes.x_0_0 ((4, 2, 3, 3) instead of (4, 3, 3, 3)): new",)


def test_deeper_and_shallower_networks_share_what_they_have(tmp_path, caplog):
    deep, shallow = network(features=(8, 8, 8, 4)), network(features=(8, 8, 8))
    assert "not used: nodes.x_0_3, " in begun(saved(tmp_path / "d.pt", deep), shallow, caplog)
    said = begun(saved(tmp_path / "s.pt", shallow), deep, caplog)
    assert "nodes.x_3_0 (not stored): new" in said and "nodes.x_0_1" not in said


def test_another_network_is_refused_and_nothing_is_loaded(tmp_path):
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    path = saved(tmp_path / "w.pt", network(features=(8, 16, 16)))
    with pytest.raises(
        InputError, match=r"at least 50% .* got \d+% from .*w.pt: .*\(8, 1, 3, 3\) instead of \(4, 1, 3"
    ):
        InitialWeights(path, net)()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_weights_are_found_in_tasks_and_bundles(tmp_path):
    for name in ("task/model.pt", "bundle/models/model.pt", "run/runs/fold1/model.pt", "all/runs/all/model.pt"):
        path = saved(tmp_path / name, network())
        assert weights_file(tmp_path / name.split("/")[0]) == path == weights_file(path)
    saved(tmp_path / "all" / "runs" / "fold0" / "model.pt", network())
    assert weights_file(tmp_path / "all").parent.name == "all"
    saved(tmp_path / "run" / "runs" / "fold0" / "model.pt", network())
    with pytest.raises(AmbiguityError, match=r"runs/fold0/model.pt, runs/fold1/model.pt"):
        weights_file(tmp_path / "run")
    for nowhere in ("nothing", "."):
        with pytest.raises(InputError, match="a file, or a folder of a task or bundle"):
            weights_file(tmp_path / nowhere)
    (tmp_path / "bundle" / "SHA256SUMS").write_text(f"{'0' * 64}  models/model.pt\n")
    with pytest.raises(BundleError, match=r"models/model.pt altered"):
        weights_file(tmp_path / "bundle")
    assert weights_digest("") is None and len(weights_digest(path)) == 64


def test_what_are_no_sound_weights_is_refused(tmp_path):
    (tmp_path / "text.pt").write_text("weights")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": object}, tmp_path / "code.pt")
    torch.save({"a": torch.tensor([float("nan")])}, tmp_path / "nan.pt")
    torch.save({}, tmp_path / "empty.pt")
    for name in ("text", "list", "code", "nan", "empty"):
        with pytest.raises(InputError, match="initial weights must be"):
            read_weights(tmp_path / f"{name}.pt")
    path = saved(tmp_path / "cut.pt", network())
    with zipfile.ZipFile(path) as archive:
        at = max(info.header_offset for info in archive.infolist() if info.file_size > 100)
    content = bytearray(path.read_bytes())
    content[at + 200] ^= 255
    path.write_bytes(content)
    with pytest.raises((BundleError, InputError)):
        read_weights(path)


def test_a_checkpoint_has_them_too(tmp_path):
    net = network()
    torch.save({"model": net.state_dict(), "trainer": {}}, tmp_path / "progress.pt")
    assert set(read_weights(tmp_path / "progress.pt")) == set(net.state_dict())
