"""What is written down of a network that was handed over; a run never fails for it."""

from types import SimpleNamespace

import pytest
import torch
from tests.support import own_nets
from torch import nn

from pipeline.config import Config
from pipeline.data.task import Classification
from pipeline.network.structure import unpack_structure
from workers import run_plan


@pytest.fixture
def resolved():
    data = SimpleNamespace(input_shape=(1, 6, 6), input_dtype=torch.float32, num_tokens=0, has_pixels=None)
    last = SimpleNamespace(task=Classification(4), num_train=7)
    return SimpleNamespace(data=data, specs=[last], normalisation=None, config=Config())


def test_the_structure_of_an_object_is_written_down_and_of_a_name_none(resolved):
    assert run_plan.facts_of(resolved, None).structure is None
    facts = run_plan.facts_of(resolved, own_nets.named())
    assert list(unpack_structure(facts.structure).state_dict()) == list(own_nets.named().state_dict())
    assert facts.input_shape == (1, 6, 6) and facts.task.num_outputs == 4 and facts.num_train == 7


def test_a_network_that_no_pickle_can_hold_has_none(resolved):
    class Local(nn.Sequential):
        """A class that no import finds."""

    local = Local(*own_nets.named())
    told = own_nets.named()
    told.note = lambda: None
    for network in (local, told):
        assert run_plan.facts_of(resolved, network).structure is None


def test_what_cannot_be_packed_or_is_too_large_is_left_out(resolved, monkeypatch):
    monkeypatch.setattr(run_plan, "_MOST_BYTES", 100)
    assert run_plan.facts_of(resolved, own_nets.named()).structure is None

    def failing(model):
        raise NotImplementedError("a tensor of one's own")

    monkeypatch.setattr(run_plan, "pack_structure", failing)
    assert run_plan.facts_of(resolved, own_nets.named()).structure is None
