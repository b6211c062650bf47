"""A rule whose blocks relax towards both neighbours before they learn, to hold the contract to its word."""

from pipeline.learning.rule import Learned, LearningRule, Topology


class Settles(LearningRule):
    """Each round a block's state moves towards what its neighbours say; it then learns to produce that state."""

    topology = Topology.SETTLE
    num_rounds = 5

    def forward(self, x, y):
        out = self.block(x)
        return out.detach(), {"x": x, "out": out, "y": y, "state": out.detach().clone()}

    def settle(self, context, index, below, above):
        state = context["state"].detach()
        if below:
            state = state + 0.1 * below[0].mean(1, keepdim=True)
        if above:
            state = state - 0.1 * above[0].mean(1, keepdim=True)
        if self.spec.is_last and self.training:
            state = state - self.spec.task.error(state, context["y"])
        context["state"] = state
        return (state,), (state,)

    def learn(self, context, feedback, *, weight=1.0):
        loss = (context["out"] - context["state"]).square().mean()
        (loss * weight).backward()
        return Learned(loss.detach())

    def decode(self, context):
        return context["state"] if self.spec.is_last else None


def build(block, spec):
    return Settles(block, spec)
