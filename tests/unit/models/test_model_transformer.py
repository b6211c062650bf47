import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.errors import ConfigError
from pipeline.models import transformer
from pipeline.models._normed_linear import normed_linear
from pipeline.network.block import build_block
from pipeline.network.shapes import infer_shapes

KINDS = [{"feedforward": f, "positions": p} for f in ("gelu", "swiglu") for p in ("learned", "rotary")]
SMALL = {"depth": 3, "layers_per_block": 2, "width": 16, "heads": 2}


def net(length=6, num_outputs=11, **options):
    return [build_block(b, 0, k) for k, b in enumerate(transformer.build((length,), num_outputs, **SMALL | options))]


def run(blocks, x):
    for block in blocks:
        x = block(x)
    return x


def tokens(size=4, length=6, seed=0):
    return torch.randint(11, (size, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(k.values()))
def test_no_position_depends_on_later_ones_to_the_bit(kind):
    blocks, x = net(**kind), tokens()
    whole = run(blocks, x)
    for t in range(1, 6):
        changed = x.clone()
        changed[:, t:] = (changed[:, t:] + 1) % 11
        out = run(blocks, changed)
        assert torch.equal(out[:, :t], whole[:, :t])
        assert not torch.equal(out[:, t], whole[:, t])


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(k.values()))
def test_shapes_and_names(kind):
    blueprints = transformer.build((6,), 11, **SMALL | kind)
    shapes = infer_shapes(blueprints, (6,), (6, 11), torch.int64)
    assert [s.out_shape for s in shapes] == [(6, 16), (6, 11)]
    assert [s.body_shape for s in shapes] == [s.out_shape for s in shapes]
    assert [b.name for b in blueprints] == ["embedding, 2 layers of 16", "1 layer of 16, read-out"]


def test_swiglu_has_as_many_weights_and_nothing_has_a_bias():
    nets = net(feedforward="gelu", width=48), net(feedforward="swiglu", width=48)
    gelu, swiglu = (sum(p.numel() for block in blocks for p in block.parameters()) for blocks in nets)
    assert swiglu == gelu
    assert not any(name.endswith("bias") for b in net() for name, _ in b.named_parameters())


def test_depth_is_cut_into_blocks_with_the_rest_in_the_last():
    for depth, per_block, count in [(4, 2, 2), (5, 2, 3), (2, 8, 1), (8, 1, 8)]:
        blocks = net(depth=depth, layers_per_block=per_block)
        layers = [sum(type(m).__name__ == "DecoderLayer" for m in b.modules()) for b in blocks]
        assert len(blocks) == count and sum(layers) == depth and max(layers) <= per_block


def test_rotary_scores_depend_on_the_distance_alone():
    (block,) = net(length=12, depth=1, positions="rotary")
    attention = block.body[1].attention
    query, key = torch.randn(1, 2, 1, 8), torch.randn(1, 2, 1, 8)
    turned = [attention._turned(v.expand(1, 2, 12, 8)) for v in (query, key)]
    scores = turned[0] @ turned[1].transpose(-1, -2)
    for distance in range(-11, 12):
        diagonal = scores.diagonal(distance, -2, -1)
        torch.testing.assert_close(diagonal, diagonal[..., :1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert (scores[0, 0, 0, 0] - scores[0, 0, 0, 3]).abs() > 1e-3


def test_attention_is_a_softmax_over_what_came_before():
    (block,) = net(depth=1)
    attention = block.body[1].attention
    x = torch.randn(3, 6, 16)
    query, key, value = (attention.project(x)[..., k * 16 : (k + 1) * 16].view(3, 6, 2, 8) for k in range(3))
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 8**0.5
    seen = scores.masked_fill(~torch.ones(6, 6).tril().bool(), -torch.inf).softmax(-1)
    expected = F.linear(torch.einsum("bhqk,bkhd->bqhd", seen, value).reshape(3, 6, 16), attention.join.weight)
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 8, 8), {}, r"reads tokens \(given: samples of shape \(3, 8, 8\), expected: \(length,\)"),
        ((6,), {"heads": 3}, r"model\.heads = 3 with model\.width = 16, expected: a divisor of the width\)"),
        ((6,), {"heads": 16, "positions": "rotary"}, r"expected: an even number of features for each head\)"),
    ],
)
def test_what_does_not_fit(shape, options, message):
    with pytest.raises(ConfigError, match=message):
        transformer.build(shape, 11, **SMALL | options)


@pytest.mark.parametrize("shape", [(3, 6), (2, 5, 6)], ids=["rows", "positions"])
@pytest.mark.parametrize("eps", [None, 1e-2])
def test_a_linear_layer_behind_a_norm_has_autograds_gradients(shape, eps):
    """In float64 to 1e-12, whether its input needs a gradient or not."""
    generator = torch.Generator().manual_seed(3)
    norm, linear = nn.RMSNorm(6, eps=eps).double(), nn.Linear(6, 4, bias=False).double()
    nn.init.normal_(norm.weight, generator=generator)
    x = torch.randn(*shape, dtype=torch.float64, generator=generator)
    error = torch.randn(*shape[:-1], 4, dtype=torch.float64, generator=generator)
    outs, grads = [], []
    for given in (x, x.clone().requires_grad_()):
        out = normed_linear(norm, linear, given)
        outs.append(out.detach())
        grads.append(torch.autograd.grad(out, [norm.weight, linear.weight], error))
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_a_linear_layer_behind_a_norm_is_torchs_own_where_nothing_is_trained_or_products_are_rounded():
    norm, linear = nn.RMSNorm(6), nn.Linear(6, 4, bias=False)
    x = torch.randn(5, 6)
    with torch.no_grad():
        assert torch.equal(normed_linear(norm, linear, x), linear(norm(x)))
    linear.eval()
    assert torch.equal(normed_linear(norm, linear, x), linear(norm(x)))
    assert "OfConstant" not in type(normed_linear(norm, linear, x).grad_fn).__name__
    linear.train()
    assert "OfConstant" in type(normed_linear(norm, linear, x).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        found = normed_linear(norm, linear, x)
        assert found.dtype is torch.bfloat16 and torch.equal(found, linear(norm(x)))


def test_a_large_block_is_measured_without_values():
    norm, linear = nn.RMSNorm(6, device="meta"), nn.Linear(6, 4, bias=False, device="meta")
    x = torch.zeros(5, 6, device="meta")
    assert normed_linear(norm, linear, x).shape == (5, 4)
    with torch.no_grad():
        assert normed_linear(norm, linear, x).shape == (5, 4)
