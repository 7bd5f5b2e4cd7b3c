"""A step's cases and chance come from (seed, fold, step) alone: within an epoch too, and for any number of workers."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandGaussianNoised

from unetpp_monai.training import CaseSampler, CheckedDataset


class Engine:
    """Of a trainer what a sampler asks for."""

    def __init__(self, iteration=0):
        self.state = SimpleNamespace(iteration=iteration)

    def add_event_handler(self, event, handler):
        self.handler = handler


def draws(iteration, **options):
    sampler = CaseSampler(range(7), **{"batch_size": 2, "seed": 3, "fold": 1, **options})
    sampler.attach(Engine(iteration))
    return list(sampler)


@pytest.mark.parametrize("steps", [0, 5])
def test_an_epoch_goes_on_where_it_was_left(steps):
    whole = draws(0, steps_per_epoch=steps)
    for done in (1, 2, 3):
        assert draws(done, steps_per_epoch=steps) == whole[2 * done :]
    later = draws(5 if steps else 4, steps_per_epoch=steps)
    assert len(later) == len(whole) and later != whole
    assert whole != draws(0, steps_per_epoch=steps, fold=2)


def test_every_case_comes_once_or_with_replacement():
    assert sorted(draw.case for draw in draws(0)) == list(range(7))
    assert len(draws(0, steps_per_epoch=5)) == 10
    loader = DataLoader(range(7), batch_size=2, sampler=CaseSampler(range(7), batch_size=2))
    assert len(loader) == 4


def test_processes_share_each_epoch():
    shares = [draws(0, rank=rank, world_size=2) for rank in range(2)]
    assert [len(share) for share in shares] == [4, 4]
    assert {draw.case for share in shares for draw in share} == set(range(7))


def noisy_batches(workers, method=None):
    cases = [{"image": torch.full((1, 4, 4), float(number))} for number in range(5)]
    dataset = CheckedDataset(cases, Compose([RandGaussianNoised("image", prob=1.0)]))
    sampler = CaseSampler(dataset, batch_size=2, seed=1)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=workers, multiprocessing_context=method)
    return [batch["image"].tolist() for batch in loader]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_change_nothing(method):
    # in a process of its own: workers may be forks, and this process has threads of other tests' libraries
    found = subprocess.run([sys.executable, __file__, method], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == noisy_batches(0)


if __name__ == "__main__":
    print(json.dumps(noisy_batches(2, sys.argv[1])))  # noqa: T201
