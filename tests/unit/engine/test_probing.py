"""The mode of blocks while the probe passes them."""

import torch
from torch import nn

from pipeline.engine.probing import _Mode


class Still(nn.Sequential):
    """Its norm keeps to evaluation mode, whatever it is told; it counts how often it is."""

    told = 0

    def train(self, mode=True):
        super().train(mode)
        self.told += 1
        self[1].training = False
        return self


def modes(block):
    return [module.training for module in block.modules()]


def test_every_module_is_in_evaluation_mode_and_then_as_it_was():
    plain = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)))
    frozen = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval()
    own = Still(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    plain[1][0].eval()  # one that its user holds still
    blocks, before = [plain, own, frozen], [modes(block) for block in (plain, own, frozen)]
    mode, told = _Mode(blocks), own.told
    known = mode.evaluate()
    assert not any(flag for block in blocks for flag in modes(block))
    x = torch.randn(6, 4)
    assert all(torch.equal(block(x), block(x)) for block in blocks)
    mode.put_back(known)
    assert [modes(block) for block in blocks] == before and own.told == told + 2
    assert not torch.equal(plain(x), plain(x))
