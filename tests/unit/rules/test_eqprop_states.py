"""Equilibrium propagation's states and updates: where they begin, what is kept, what is refused."""

import pytest
import torch
from eqprop_builders import (
    CLASSES, FORMS, SETTLED, SHIFT, WIDTHS, Clip, flat, inputs, learned, made, network, noted, settled, with_store,
)  # fmt: skip
from rule_builders import assert_same, conv, dense, gradients, make_rules, read_out
from tests.support.exchange import run_forward, settle
from torch import nn

from pipeline.data.task import Binary
from pipeline.network.block import Block
from pipeline.network.hard_units import Bernoulli
from pipeline.rules.eqprop import Relaxation, build


def test_a_sample_goes_on_where_its_last_free_phase_ended():
    x, y = inputs()
    rules, longer = with_store(), made(network(Clip, scale=1.5), "energy", free_rounds=9)
    places = torch.arange(16)
    for _ in range(3):
        noted(rules, places)
        contexts = settled(rules, x, y)
    for rule, context, whole in zip(rules, contexts, settled(longer, x, y), strict=True):
        assert torch.equal(rule.states, context.ends[0].state) and rule.notes_batches
        assert_same([context.ends[0].state], [whole.ends[0].state], rtol=1e-12)


def test_nothing_is_kept_of_a_batch_that_is_not_the_run_s():
    rules = with_store()
    x, y = inputs()
    settled(rules, x, y)
    for rule in rules:
        rule.eval()
    noted(rules, torch.arange(16))
    with torch.no_grad():
        settled(rules, x, y)
    assert not any(rule.states.any() for rule in rules) and all(rule.batch_note is None for rule in rules)


def test_a_test_sample_settles_longer_where_training_samples_go_on():
    assert [Relaxation(free_rounds=4, persistent=p, test_rounds=t).num_tested for p, t in
            ((False, 0), (True, 0), (True, 7))] == [4, 20, 7]  # fmt: skip
    rule = made(network(), free_rounds=4, nudged_rounds=3)[0]
    assert rule.num_rounds == 4 + 2 * 3 + 2 and rule.eval().num_rounds == 5


@pytest.mark.parametrize("form", FORMS)
def test_updates_are_the_published_products_of_states(form):
    """With the state below a variable of its own in every product."""
    rules = made(network(FORMS[form], shift=SHIFT[form]), form, nudging="one_sided", beta=0.2)
    x, y = inputs()
    contexts = settled(rules, x, y)
    free, nudged = ([x, *(c.ends[k].state for c in contexts)] for k in (0, 1))
    for k, (weight, bias) in enumerate(learned(rules, x, y)):
        assert_same([weight], [-(nudged[k + 1].T @ nudged[k] - free[k + 1].T @ free[k]) / (0.2 * len(y))])
        assert_same([bias], [-(nudged[k + 1] - free[k + 1]).sum(0) / (0.2 * len(y))])


def test_the_sign_of_a_batch_is_drawn_and_the_same_in_all_blocks():
    blocks = network()
    x, y = inputs()
    found = {}
    for seed in (4, 5):
        rules = made(blocks, nudging="random_sign", beta=0.2)
        noted(rules, torch.arange(16), seed)
        contexts = run_forward(rules, x, y)
        assert {c.beta for c in contexts} == {0.2 if seed == 4 else -0.2}
        settle(rules, contexts)
        for rule, context in zip(rules, contexts, strict=True):
            rule.learn(context, ())
        found[seed] = [gradients(rule) for rule in rules]
        for block in blocks:
            block.zero_grad()
    assert torch.equal(flat(found[4]), flat(learned(made(blocks, nudging="one_sided", beta=0.2), x, y)))
    both = learned(made(blocks, beta=0.2), x, y)
    assert_same([(flat(found[4]) + flat(found[5])) / 2], [flat(both)])


def test_parts_of_a_batch_add_up():
    x, y = inputs()
    whole = flat(learned(made(network()), x, y))
    parts = [flat(learned(made(network()), x[c], y[c], weight=len(y[c]) / 16)) for c in (slice(0, 4), slice(4, 16))]
    assert_same([parts[0] + parts[1]], [whole])


def test_the_answer_is_the_top_s_free_state_in_training_and_in_evaluation():
    rules = made(network(), **SETTLED)
    x, y = inputs()
    trained = settled(rules, x, y)
    assert torch.equal(rules[-1].decode(trained[-1]), trained[-1].ends[0].state)
    assert [rule.decode(c) for rule, c in zip(rules[:-1], trained)] == [None] * 2
    for rule in rules:
        rule.eval()
    with torch.no_grad():
        tested = settled(rules, x, y)
    assert torch.equal(rules[-1].decode(tested[-1]), trained[-1].ends[0].state)


def test_the_loss_is_the_cost_of_the_free_state():
    x, y = inputs()
    for form, factor in (("prototypical", 0.5), ("energy", 1.0)):
        rules = made(network(FORMS[form]), form)
        contexts = settled(rules, x, y)
        losses = [rule.learn(c, ()).loss for rule, c in zip(rules, contexts, strict=True)]
        off = contexts[-1].ends[0].state - nn.functional.one_hot(y, CLASSES)
        assert losses[:-1] == [None] * 2
        assert losses[-1].item() == pytest.approx(factor * off.square().sum(1).mean().item(), rel=1e-12)


def test_an_output_without_a_unit_is_clipped_and_of_two_classes_read_at_one_half():
    blocks = [*network(Clip)[:2], read_out((8,), 1)]
    rules = make_rules(build, blocks, WIDTHS[:1], Binary(), relaxation=Relaxation(form="energy"))
    x, y = inputs()
    state = settled(rules, x, y % 2)[-1].state
    assert state.min() >= 0.0 and state.max() <= 1.0
    assert rules[-1].num_correct(torch.tensor([[0.4], [0.6]]), torch.tensor([0, 1])) == 2


def test_each_block_has_a_rate():
    rules = made(network(), rates=(0.5, 1.0, 2.0))
    assert [rate for rule in rules for _, rate in rule.parameter_groups()] == [0.5, 1.0, 2.0]
    with pytest.raises(ValueError, match=r"given: rule\.rates of 2, expected: 3\)\. Give one for each block"):
        made(network(), rates=(0.5, 1.0))


@pytest.mark.parametrize(("block", "shape", "form", "text"), [
    (conv(2, 4), (2, 6, 6), "prototypical", "eqprop is a rule of fully connected layers"),
    (dense(6, 8, norm=True), (6,), "prototypical", r"cannot split the unit .*Set model\.norm to none"),
    (Block(nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5))), (6,), "prototypical", "or changes .given: Dropout"),
    (Block(nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), Bernoulli())), (6,), "prototypical", "given: Bernoulli"),
    (dense(6, 8), (6,), "energy", r"lie in \[0, 1\] .given: Tanh, .*Set model\.activation to clip, or rule\.form"),
    (Block(nn.Sequential(nn.Linear(6, 8), nn.Hardtanh())), (6,), "energy", "given: Hardtanh, expected: clip or no"),
])  # fmt: skip
def test_blocks_whose_states_would_not_settle_are_refused(block, shape, form, text):
    with pytest.raises(ValueError, match=text):
        make_rules(build, [block], shape, num_blocks=2, relaxation=Relaxation(form=form))
