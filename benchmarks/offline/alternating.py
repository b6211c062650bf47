"""Offline alternating minimisation: all codes of the training set, then all weights, over and over.

Codes are found as the online rule finds them; the weights below the output solve least squares by sweeps of coordinate
descent, those of the output descend on the loss by L-BFGS. Rectifiers, no biases below the output. Steps on codes are
no longer than the curvature allows: an output that fits the training set is steep.

Source: Choromanska et al., "Beyond Backprop: Online Alternating Minimization with Auxiliary Variables" (2019), which
compares with it; how the output is trained is not in print.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.learning.codes import CodeSearch, nesterov
from pipeline.rules.am_mem import swept

__all__ = ["OfflineAlternating"]

_SWEEPS = 20
_OUTPUT_STEPS = 20


class OfflineAlternating:
    """Args: widths: of all layers, the input's and the output's among them. search: of the codes, by sums over
    features."""

    def __init__(self, widths: Sequence[int], search: CodeSearch) -> None:
        self.search = search
        layers = [nn.Linear(a, b, bias=False) for a, b in zip(widths[:-2], widths[1:-1], strict=True)]
        self.weights = [layer.weight.detach() for layer in layers]
        self.output = nn.Linear(widths[-2], widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Pre-activations of every layer, (samples, width), for x, (samples, features)."""
        codes = []
        for weight in self.weights:
            codes.append(x @ weight.t())
            x = codes[-1].relu()
        return [*codes, self.output(x).detach()]

    def iterate(self, x: Tensor, y: Tensor) -> None:
        """Codes from the top down, then the weights of all layers. Args: x (samples, features), y (samples,) int64."""
        *starts, _ = self.forward(x)
        codes: list[Tensor] = []
        for k in reversed(range(len(starts))):
            codes.insert(0, self._search(k, starts[k], codes[0] if codes else None, y))
        self._fit_output(codes[-1].relu(), y)
        inputs = [x, *(code.relu() for code in codes[:-1])]
        for k, (rows, code) in enumerate(zip(inputs, codes, strict=True)):
            self.weights[k] = swept(self.weights[k], rows.t() @ rows, code.t() @ rows, _SWEEPS)

    def _search(self, layer: int, start: Tensor, target: Tensor | None, y: Tensor) -> Tensor:
        """The new code of a layer."""
        search, output = self.search, self.output.weight.detach()
        labels = F.one_hot(y, len(output)).to(start.dtype)

        def gradient(code: Tensor) -> Tensor:
            if target is None:
                error = (F.linear(code.relu(), output, self.output.bias.detach()).softmax(1) - labels) / search.mu
                slope = error @ output
            else:
                weight = self.weights[layer + 1]
                slope = 2.0 * (code.relu() @ weight.t() - target) @ weight
            return slope * (code > 0) + 2.0 * (code - start)

        above = output if target is None else self.weights[layer + 1]
        stiff = torch.linalg.matrix_norm(above, 2).item() ** 2 * (0.5 / search.mu if target is None else 2.0) + 2.0
        return nesterov(start, gradient, search.code_steps, min(search.code_rate, 1.0 / stiff), search.code_momentum)

    def _fit_output(self, rows: Tensor, y: Tensor) -> None:
        optimizer = torch.optim.LBFGS(self.output.parameters(), max_iter=_OUTPUT_STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(self.output(rows), y)
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
