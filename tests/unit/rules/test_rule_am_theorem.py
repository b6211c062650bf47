"""The source's theorem on stochastic alternating descent, on a quadratic of which everything in it is known.

The theorem is about steps of plain descent on noisy gradients, block after block. Of the product it takes the descent,
:func:`nesterov` for one step without momentum; the rest is the theorem's setting."""

import numpy as np
import pytest
import torch

from pipeline.learning.codes import nesterov

BLOCKS, SIZE, RUNS = 3, 4, 200
CONVEX, SMOOTH, COUPLING, NOISE = 1.0, 2.0, 0.1, 0.5
CHECKED = (10, 100, 1000)


def problem():
    """Hessian of a sum over blocks whose curvatures lie between CONVEX and SMOOTH, coupled by rotations times gamma."""
    generator = np.random.default_rng(0)
    hessian = np.zeros((BLOCKS, BLOCKS, SIZE, SIZE))
    for i in range(BLOCKS):
        turn, _ = np.linalg.qr(generator.normal(size=(SIZE, SIZE)))
        hessian[i, i] = turn @ np.diag(np.linspace(CONVEX, SMOOTH, SIZE)) @ turn.T
        for j in range(i):
            hessian[i, j], _ = np.linalg.qr(generator.normal(size=(SIZE, SIZE)))
            hessian[i, j] *= COUPLING
            hessian[j, i] = hessian[i, j].T
    return torch.from_numpy(hessian)


def distances(step_size):
    """Mean squared distance to the optimum after each step, and the largest mean square of the noisy gradients.

    Blocks step one after another, each from the newest of the others."""
    torch.manual_seed(0)
    hessian, found, most = problem(), [], 0.0
    theta = torch.randn(RUNS, BLOCKS, SIZE, dtype=torch.float64)
    found.append(theta.square().sum((1, 2)).mean().item())
    for t in range(max(CHECKED) + 1):
        square = 0.0
        for i in range(BLOCKS):
            noise = NOISE * torch.randn(RUNS, SIZE, dtype=torch.float64)
            gradient = torch.einsum("jab,rjb->ra", hessian[i], theta) + noise
            square += gradient.square().sum(1).mean().item()
            theta[:, i] = nesterov(theta[:, i], lambda _: gradient, 1, step_size(t), 0.0)
        most = max(most, square)
        found.append(theta.square().sum((1, 2)).mean().item())
    return found, most


def test_o_a10_the_mean_squared_distance_obeys_the_bound_where_steps_shrink_and_there_alone():
    """O-A10: on a quadratic of three blocks the mean squared distance of 200 runs obeys the theorem's bound."""
    xi = 2 * SMOOTH * CONVEX / (SMOOTH + CONVEX)
    assert COUPLING < 2 * xi / (3 * (BLOCKS - 1))
    rate = 2 * xi - 3 * COUPLING * (BLOCKS - 1)
    found, most = distances(lambda t: 1.5 / (rate * (t + 2) + 1.5 * (BLOCKS - 1) * COUPLING))
    noise = BLOCKS * SIZE * NOISE**2  # sigma squared, of which the other reading is the mean square of whole gradients
    assert noise < most
    for t in CHECKED:
        assert found[t + 1] <= found[0] * (2 / (t + 3)) ** 1.5 + 9 * noise / (rate**2 * (t + 3))
    assert found[1001] == pytest.approx(found[101] / 10, rel=0.3), "the distance falls by 1/t"
    found, _ = distances(lambda t: 0.5)
    assert found[1001] > found[0] * (2 / 1003) ** 1.5 + 9 * noise / (rate**2 * 1003)
