import warnings

import torch
from torch import nn

from pipeline.network.meta import skeleton


def needs_numbers():
    return nn.Linear(2, int(torch.tensor([1.0, 2.0]).sum().item()))


def test_takes_no_memory():
    assert skeleton(lambda: nn.Linear(10**6, 10**6)).weight.is_meta


def test_code_that_reads_numbers_runs_on_the_cpu():
    assert skeleton(needs_numbers).weight.shape == (3, 2)
    assert not skeleton(needs_numbers).weight.is_meta


def test_warnings_about_the_device_are_kept_from_the_user():
    def make():
        warnings.warn("no data here", stacklevel=1)
        return 1

    assert skeleton(make) == 1


def test_leaves_the_random_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    skeleton(needs_numbers)
    skeleton(lambda: torch.rand(2))
    assert torch.equal(torch.rand(3), expected)
