"""Adam's kernel alone on a CUDA device: the bits of torch's own step."""

import pytest
import torch
from torch import nn, optim

from pipeline.optim.lean_adam import LeanAdam

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_every_step_gives_the_bits_of_torch():
    ours = [nn.Parameter(torch.randn(shape, device="cuda")) for shape in ((300, 40), (40,))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    lean, usual = LeanAdam(ours, lr=1e-2), optim.Adam(theirs, lr=1e-2, fused=True)
    for _ in range(5):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        lean.step()
        usual.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
