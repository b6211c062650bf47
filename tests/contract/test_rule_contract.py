"""What the runtime relies on, for every rule there is, at every position, for dense and convolutional blocks."""

import copy
from math import prod

import pytest
import torch
from tests.support.products import rare
from torch import nn

from pipeline import registry
from pipeline.data.position_tasks import PositionClasses, Regression
from pipeline.data.synthetic import random_labels
from pipeline.data.task import Binary, Classification, Labels
from pipeline.engine.settling import Settling
from pipeline.learning.rule import BlockSpec, Learned, Topology
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.network.recurrent import Recurrent

VARIANTS = {
    "dfa-pre": ("dfa", {"inject": "pre"}),
    "dfa-cell": ("dfa", {"inject": "cell"}),
    "dfa-mlp": ("dfa", {"projection": "mlp"}),
    "dfa-learned": ("dfa", {"matrix": "learned"}),
    "dfa-pre-learned": ("dfa", {"inject": "pre", "matrix": "learned"}),
    "lra_fdbk-mean": ("lra_fdbk", {"reduction": "mean", "weight_clip": 0.1}),
    "lra_fdbk-block": ("lra_fdbk", {"subgraph": "block"}),
    "lra_fdbk-block-mean": ("lra_fdbk", {"subgraph": "block", "reduction": "mean", "weight_clip": 0.1}),
    "dni-mixed": ("dni", {"mixing": 0.3, "conditioned": False, "layers": 1, "width": 12}),
    "pred-recon": ("pred", {"unsupervised": "recon", "alpha": 0.3}),
    "pred-unsup-sim": ("pred", {"unsupervised": "sim", "alpha": 0.3}),
    "predsim-unsup": ("predsim", {"unsupervised": "sim", "alpha": 0.5}),
    "am-features": ("am", {"reduction": "features", "sparsity": 0.01}),
    "pc-fixed": ("pc", {"inference": "fixed", "rounds": 3}),
    "eqprop-one-sided": ("eqprop", {"nudging": "one_sided", "free_rounds": 4, "nudged_rounds": 3}),
    "eqprop-energy": ("eqprop", {"form": "energy", "nudging": "random_sign", "persistent": True, "beta": 0.5}),
    "aux-mlp": ("aux", {"head": "mlp", "norm": True}),
    "interlock-3": ("interlock", {"overlap": 3, "norm": True}),
    "lra_diff-steps": ("lra_diff", {"reduction": "mean", "steps": 3}),
    "lra_rnn-fdbk": ("lra_rnn", {"through_time": "fdbk", "reduction": "mean"}),
    "lra_rnn-diff": ("lra_rnn", {"through_time": "diff", "steps": 2, "loss": "cauchy"}),
}
RULES = [*registry.known("pipeline.rules"), *VARIANTS]
BATCH = 8
POSITIONS = range(3)


def _dense(num_in, num_out):
    return Block(nn.Sequential(nn.Linear(num_in, num_out), nn.BatchNorm1d(num_out), nn.Tanh()))


class Drawn(Bernoulli):
    """Draws the same every time, as the runtime's seeds have it for one micro-batch."""

    def forward(self, v):
        torch.default_generator.manual_seed(4)
        return super().forward(v)


def _sampled(num_in, num_out):
    return Block(nn.Sequential(nn.Linear(num_in, num_out), nn.Sigmoid(), Drawn()))


def _plain(num_in, num_out):
    return Block(nn.Sequential(nn.Linear(num_in, num_out), nn.Tanh()))


def _half_blocks(num_outputs, num_in):
    """Blocks that meet in front of their units."""
    bodies = [nn.Linear(num_in, 9)], [nn.Tanh(), nn.Linear(9, 8)], [nn.Tanh(), nn.Linear(8, num_outputs)]
    return [Block(nn.Sequential(*b), ahead=a) for b, a in zip(bodies, (nn.Tanh(), nn.Tanh(), None))]


def _elman(num_in, num_out):
    return Block(Recurrent("elman", num_in, num_out))


def _clipped(num_in, num_out):
    return Block(nn.Sequential(nn.Linear(num_in, num_out), nn.Hardtanh(0.0, 1.0)))


def _conv(num_in, num_out):
    body = nn.Sequential(nn.Conv2d(num_in, num_out, 3, padding=1), nn.BatchNorm2d(num_out), nn.LeakyReLU())
    return Block(body, nn.MaxPool2d(2))


def _top(in_shape, num_outputs):
    return Block(nn.Sequential(nn.Flatten(), nn.Linear(prod(in_shape), num_outputs)))


def _plain_blocks(num_outputs, num_in):
    return [_plain(num_in, 9), _plain(9, 8), _top((8,), num_outputs)]


def _dense_blocks(num_outputs, num_in):
    return [_dense(num_in, 9), _dense(9, 8), _top((8,), num_outputs)]


# name: (task, input shape, blocks)
NETWORKS = {
    "dense": (Classification(4), (6,), lambda: _dense_blocks(4, 6)),
    "plain": (Classification(4), (6,), lambda: _plain_blocks(4, 6)),
    "half": (Classification(4), (6,), lambda: _half_blocks(4, 6)),
    "conv": (Classification(4), (2, 8, 8), lambda: [_conv(2, 5), _conv(5, 6), _top((6, 2, 2), 4)]),
    "binary": (Binary(), (2,), lambda: _dense_blocks(1, 2)),
}
SHAPES = {
    "dense": [(6,), (9,), (8,), (4,)],
    "plain": [(6,), (9,), (8,), (4,)],
    "half": [(6,), (9,), (8,), (4,)],
    "conv": [(2, 8, 8), (5, 4, 4), (6, 2, 2), (4,)],
    "binary": [(2,), (9,), (8,), (1,)],
}
BODIES = {**{kind: SHAPES[kind][1:] for kind in ("dense", "plain", "half", "binary")},
          "conv": [(5, 8, 8), (6, 4, 4), (4,)]}  # fmt: skip
SEQUENCE = {
    "sequence": PositionClasses(4, (3,)), "numbers": Regression(4), "series": Regression(4, (3,)),
}  # fmt: skip
for _kind, _task in SEQUENCE.items():
    NETWORKS[_kind] = (_task, (6,), lambda: [_plain(6, 9), _plain(9, 8), Block(nn.Linear(8, 4))])
    SHAPES[_kind] = [(*_task.positions, size) for size in (6, 9, 8, 4)]
    BODIES[_kind] = SHAPES[_kind][1:]
ANY_LABELS = {"backprop", "fa", "usf", "brsf", "frsf", "dfa", "sdfa", "linear_decoder", "pred", "lra_rnn", "dni_rnn"}
ANY_LABELS |= {"aux", "interlock", "readout"}
ANY_LABELS |= {name for name, (rule, options) in VARIANTS.items() if rule in ANY_LABELS and "alpha" not in options}
"""Rules that learn from classes at positions and from numbers; all others refuse them."""
PLAIN_ONLY = {"lra_fdbk", "lra_fdbk-mean", "tp", "dtp", "ifa", "pc", "eqprop", "eqprop-one-sided"}
"""Rules that refuse normalisation, most of them of blocks of one linear layer and a unit."""
NETWORKS["sampled"] = (Classification(4), (6,), lambda: [_sampled(6, 9), _sampled(9, 8), _top((8,), 4)])
SHAPES["sampled"], BODIES["sampled"] = SHAPES["plain"], BODIES["plain"]
NETWORKS["clipped"] = (Classification(4), (6,), lambda: [_clipped(6, 9), _clipped(9, 8), _top((8,), 4)])
SHAPES["clipped"], BODIES["clipped"] = SHAPES["plain"], BODIES["plain"]
NETWORKS["recurrent"] = (SEQUENCE["sequence"], (6,), lambda: [_elman(6, 9), _elman(9, 8), Block(nn.Linear(8, 4))])
SHAPES["recurrent"], BODIES["recurrent"] = SHAPES["sequence"], BODIES["sequence"]
SEQUENCE["recurrent"] = SEQUENCE["sequence"]
RECURRENT = {
    name: ("plain", "sequence", "series", "recurrent")
    for name in ("lra_rnn", "lra_rnn-fdbk", "lra_rnn-diff", "dfa-cell")
}
"""Rules of recurrent blocks."""
CLIPPED_ONLY = {"eqprop-energy"}
"""Rules of states in [0, 1]."""
VECTORS_ONLY = {"readout"}
"""Rules whose hidden blocks give vectors, or features at positions."""
SAMPLED = {"straight_through": True, "sigmoid_adjusted": True, "slope_annealing": True, "reinforce": False}
"""Rules of blocks that draw samples, and whether they take others too."""
HALF_ONLY = {"lra_diff", "am_mem"}
"""Rules of blocks from one pre-activation to the next."""
ALSO_HALF = {"am"}
"""Rules that take such blocks, too."""
TELLS = {"lra_rnn", "lra_fdbk", "lra_subgraph", "lra_diff", "tp", "dtp", "dni", "am", "am_mem"}
"""Rules whose messages are targets, displacements (of codes too) or derivatives of single samples, without a weight."""
STEPS = {"tp", "dtp"}
"""Of these, the ones whose first target is a step against the weighted loss."""
SUMS = {"lra_fdbk", "lra_diff", "lra_fdbk-block", "lra_rnn", "lra_rnn-diff"}
"""Rules whose loss is a sum over samples: what a part of a batch adds does not depend on its share."""

REGRESSES = {"eqprop"}
"""Rules whose last block descends on another loss than the task's, the squared distance of a state to the targets."""
REMEMBERS = {"am_mem"}
"""Rules that solve over all samples so far: what a batch adds depends on those learned before, so they begin anew where
others learn a batch again, and learn in order."""


def _networks(name):
    rule = VARIANTS.get(name, (name,))[0]
    if rule in SAMPLED:
        return [n for n in NETWORKS if n == "sampled" or (SAMPLED[rule] and n not in ("half", "clipped", *SEQUENCE))]
    if name in PLAIN_ONLY | CLIPPED_ONLY:
        return ("plain",) if name in PLAIN_ONLY else ("clipped",)
    if rule in HALF_ONLY:
        return ("half",)
    if name in RECURRENT:
        return RECURRENT[name]
    names = [n for n in NETWORKS if n not in ("sampled", "clipped") and (n != "half" or rule in ALSO_HALF)]
    names = [n for n in names if n != "conv" or rule not in VECTORS_ONLY]
    return [n for n in names if n not in SEQUENCE or (name in ANY_LABELS and n != "recurrent")]


CASES = [(r, n) for r in RULES for n in _networks(r)]
PLACES = [(*case, index) for case in CASES for index in POSITIONS]


def _is_usual(rule, network, index):
    """A rule is seen at all positions of its first network and of maps; of every other network at one of them."""
    if network == _networks(rule)[0] or network == "conv" and rule not in VARIANTS:
        return True
    return network != "series" and (RULES.index(rule) + list(NETWORKS).index(network)) % len(POSITIONS) == index


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=rare(PLACES, but=[p for p in PLACES if _is_usual(*p)]), ids=lambda p: "-".join(map(str, p)))
def place(request):
    return request.param


@pytest.fixture
def name(place):
    return place[0]


@pytest.fixture
def network(place):
    return place[1]


@pytest.fixture
def index(place):
    return place[2]


def build(name, network, index, seed=0):
    task, _, blocks = NETWORKS[network]
    torch.default_generator.manual_seed(seed)
    shapes = SHAPES[network]
    spec = BlockSpec(index, 3, shapes[index], BODIES[network][index], shapes[index + 1], task, num_train=BATCH)
    plain_name, options = VARIANTS.get(name, (name, {}))
    rule = registry.load("pipeline.rules", plain_name, "rule")(blocks()[index], spec, **options).double()
    rule.built_as = name, network
    # Heads that start at 0 would hide a block's gradient.
    for parameter in rule.parameters():
        if not parameter.any():
            nn.init.normal_(parameter)
    return rule


def batch(network, index, seed=1, size=BATCH):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, *SHAPES[network][index], generator=generator, dtype=torch.float64)
    task = NETWORKS[network][0]
    if network in SEQUENCE:
        return x, random_labels(task, size, generator)
    return x, torch.arange(size) % max(2, task.num_outputs)


def feedback(rule, out, weight=1.0, seed=2):
    """What the topology promises: nothing, or what its sender has weighted: the output error, or one like ``out``."""
    if (rule.learns_at_once and not learns_again(rule)) or rule.topology is Topology.SETTLE:
        return ()
    if name_of(rule) in TELLS:
        weight = 1.0
    shape = (len(out), *broadcast_shape(rule)) if rule.topology is Topology.BROADCAST else out.shape
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * weight,)


def learn(rule, x, y, weight=1.0):
    return learn_from(rule, *rule(x, y), weight)


def learn_from(rule, out, context, weight=1.0):
    if rule.topology is Topology.SETTLE:
        settle(rule, context, len(out))
    torch.default_generator.manual_seed(3)  # the runtime seeds every micro-batch
    if not learns_again(rule):
        return rule.learn(context, feedback(rule, out, weight), weight=weight)
    at_once = rule.learn(context, (), weight=weight)
    later = rule.learn(context, feedback(rule, out, weight), weight=weight)
    assert at_once.loss is None and later.upstream == ()
    return Learned(later.loss, at_once.upstream)


def learns_again(rule):
    """A hidden block with synthetic gradients: at once, and when the message comes."""
    return rule.learns_at_once and rule.topology is Topology.NEIGHBOUR and not rule.spec.is_last


def settle(rule, context, size):
    """All rounds with neighbours that run a batch of their own."""
    rules, contexts = {}, {}
    for k in range(3):
        rules[k] = rule if k == rule.spec.index else build(*rule.built_as, k, seed=k)
        contexts[k] = context if k == rule.spec.index else rules[k](*batch(rule.built_as[1], k, size=size))[1]
    exchange = Settling(rules, contexts)
    for index in range(exchange.num_rounds):
        exchange.round(index, (), ())


def name_of(rule):
    return type(rule).__module__.rpartition(".")[2]


def broadcast_shape(rule):
    """Of what comes for each sample from the last block: the output error, or the loss."""
    return (1,) if type(rule).__name__ == "Reinforce" else rule.spec.task.out_shape


def gradients(rule):
    return {key: p.grad.clone() for key, p in rule.named_parameters()}


def test_p8_activation_is_detached_and_that_of_the_weights_before_the_update(name, network, index):
    rule = build(name, network, index)
    before = copy.deepcopy(rule)
    x, y = batch(network, index)
    out, context = rule(x, y)
    sent = out.clone()
    learn_from(rule, out, context)
    torch.optim.SGD(rule.parameters(), lr=0.5).step()
    assert not out.requires_grad and out.shape == (BATCH, *SHAPES[network][index + 1])
    assert torch.equal(out, sent), "learning changed the activation after it was sent"
    with torch.no_grad():
        assert torch.equal(out, before.block(x))
        assert not torch.equal(out, rule.block(x))


def test_what_a_block_propagates_is_what_it_sends_in_evaluation_with_a_graph(name, network, index):
    rule = build(name, network, index).eval()
    rule.begin_epoch(7)
    x, y = batch(network, index)
    with torch.no_grad():
        sent, context = rule(x, y)
        torch.default_generator.manual_seed(3)
        scores = rule.decode(context)
    out = rule.propagate(x.requires_grad_())
    assert torch.equal(out, sent) and out.requires_grad
    if rule.spec.is_last and rule.topology is not Topology.SETTLE:
        assert torch.equal(out, scores)


def test_learning_fills_the_gradients_of_all_parameters_and_touches_no_input(name, network, index):
    rule = build(name, network, index)
    x, y = batch(network, index)
    weights = {key: value.clone() for key, value in rule.named_parameters()}
    learn(rule, x, y)
    assert [key for key, p in rule.named_parameters() if p.grad is None] == []
    # A bias in front of BatchNorm has gradient 0, weights do not.
    assert [key for key, p in rule.named_parameters() if key.endswith("weight") and not p.grad.any()] == []
    assert x.grad is None and not x.requires_grad
    assert all(torch.equal(weights[key], p) for key, p in rule.named_parameters())


def test_loss_is_a_detached_finite_scalar_where_there_is_one(name, network, index):
    rule = build(name, network, index)
    loss = learn(rule, *batch(network, index)).loss
    assert loss is not None or not (rule.learns_at_once or rule.spec.is_last)
    assert loss is None or loss.shape == () and not loss.requires_grad and loss.isfinite()


def test_weight_scales_the_gradient_once(name, network, index):
    rule = build(name, network, index)
    x, y = batch(network, index)
    whole = learn(rule, x, y)
    expected = gradients(rule)
    rule.zero_grad()
    rule = build(name, network, index) if name in REMEMBERS else rule
    part = learn(rule, x, y, weight=0.25)
    share = 1.0 if name in SUMS else 0.25
    for key, grad in gradients(rule).items():
        assert torch.equal(grad, expected[key] * share), key
    assert part.loss is whole.loss is None or torch.equal(part.loss, whole.loss)
    for given, wanted in zip(part.upstream, whole.upstream, strict=True):
        if name in STEPS and rule.spec.is_last:
            torch.testing.assert_close(given - x, (wanted - x) * 0.25, rtol=1e-10, atol=1e-14)
        else:
            assert torch.equal(given, wanted * (1.0 if VARIANTS.get(name, (name,))[0] in TELLS else 0.25))


def test_upstream_has_the_shape_the_topology_promises(name, network, index):
    rule = build(name, network, index)
    learned = learn(rule, *batch(network, index))
    shapes = [tuple(t.shape) for t in learned.upstream]
    if rule.topology is Topology.NEIGHBOUR:
        assert shapes == ([] if index == 0 else [(BATCH, *SHAPES[network][index])])
    elif rule.topology is Topology.BROADCAST and rule.spec.is_last:
        assert shapes == [(BATCH, *broadcast_shape(rule))]
    else:
        assert shapes == []
    assert not any(t.requires_grad for t in learned.upstream)


def test_contexts_are_learned_in_any_order_and_add_up(name, network, index):
    first, second = batch(network, index, 1), batch(network, index, 5)
    rule = build(name, network, index)
    apart = []
    for x, y in (first, second):
        rule.zero_grad()
        learn(rule, x, y, weight=0.5)
        apart.append(gradients(rule))
    rule.zero_grad()
    rule = build(name, network, index) if name in REMEMBERS else rule
    out, context = rule(*first)
    later_out, later = rule(*second)
    order = [(later_out, later), (out, context)]
    for ran in reversed(order) if name in REMEMBERS else order:
        learn_from(rule, *ran, 0.5)
    for key, grad in gradients(rule).items():
        torch.testing.assert_close(grad, apart[0][key] + apart[1][key], rtol=1e-10, atol=1e-12)


def test_evaluation_is_repeatable_and_needs_no_graph(name, network, index):
    rule = build(name, network, index)
    learn(rule, *batch(network, index))
    rule.eval()
    state = copy.deepcopy(rule.state_dict())
    x, y = batch(network, index, 7)
    with torch.no_grad():
        out, context = rule(x, y)
        again, other = rule(x, y)
        scores, repeated = rule.decode(context), rule.decode(other)
    assert torch.equal(out, again) and not out.requires_grad
    assert (scores is None) == (repeated is None)
    if scores is not None:
        task = rule.spec.task
        assert torch.equal(scores, repeated) and scores.shape == (BATCH, *task.out_shape)
        assert task.labels is Labels.NUMBERS or 0 <= rule.num_correct(scores, y) <= BATCH * task.num_positions
        assert rule.decoded_loss(scores, y).isfinite()
    assert all(torch.equal(value, state[key]) for key, value in rule.state_dict().items())


def test_last_block_decodes_the_networks_output(name, network):
    rule = build(name, network, 2)
    x, y = batch(network, 2)
    out, context = rule(x, y)
    assert torch.equal(rule.decode(context), out)
    if rule.spec.task.labels is not Labels.NUMBERS:
        assert rule.num_correct(out, y) == rule.spec.task.num_correct(out, y)
    if name_of(rule) not in REGRESSES:
        assert rule.decoded_loss(out, y) == rule.spec.task.loss(out, y)


def test_loss_in_evaluation_is_the_one_that_the_last_block_descends_on(name, network):
    rule = build(name, network, 2)
    x, y = batch(network, 2)
    out, context = rule(x, y)
    loss = learn_from(rule, out, context).loss
    torch.testing.assert_close(rule.decoded_loss(rule.decode(context), y), loss, rtol=1e-12, atol=0.0)


def test_state_dict_carries_everything_that_learning_depends_on(name, network, index):
    rule, other = build(name, network, index), build(name, network, index, seed=9)
    x, y = batch(network, index)
    learn(rule, x, y)
    other.load_state_dict(rule.state_dict())
    results = []
    for each in (rule, other):
        each.zero_grad()
        results.append((learn(each, x, y), gradients(each)))
    (given, grads), (copied, copied_grads) = results
    assert given.loss is copied.loss is None or torch.equal(given.loss, copied.loss)
    assert all(torch.equal(a, b) for a, b in zip(given.upstream, copied.upstream, strict=True))
    assert all(torch.equal(grads[key], copied_grads[key]) for key in grads)


def test_initial_state_depends_on_the_seed_alone(name, network, index):
    first, second = build(name, network, index).state_dict(), build(name, network, index).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_takes_a_batch_of_another_size(name, network, index):
    """The last batch of an epoch may be smaller, down to two samples."""
    rule = build(name, network, index)
    learn(rule, *batch(network, index))
    x, y = batch(network, index, size=2)
    out, context = rule(x, y)
    loss = learn_from(rule, out, context).loss
    assert len(out) == 2 and (loss is None or loss.isfinite())


@pytest.mark.parametrize("network", ["sequence", "numbers"])
@pytest.mark.parametrize("name", [r for r in RULES if VARIANTS.get(r, (r,))[0] not in ANY_LABELS])
def test_rules_that_need_a_class_for_each_sample_say_so(name, network):
    """Before anything else, whatever the block."""
    with pytest.raises(ValueError, match=r"it learns from one class for each sample only \(given: labels that are .*, "
                                         r"of shape .*\)\. Choose a rule for them, e\.g\. linear_decoder: docs/"):
        build(name, network, 1)


def test_summary_says_what_the_rule_is(name):
    assert len(registry.summary("pipeline.rules", VARIANTS.get(name, (name,))[0])) > 20
