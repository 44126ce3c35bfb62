"""Lookahead: every few steps the weights move back to a slow average of themselves."""

from __future__ import annotations

import torch
from torch import nn


class Lookahead:
    """An ``after_step`` that pulls weights and statistics to their slow average every 5 steps.

    slow <- d slow + (1 - d) fast, then fast <- slow, with d = 0.95^5 (step / steps)^3; after the
    last step d = 1, so that the network ends as the average.

    Source: Zhang et al., Lookahead Optimizer, NeurIPS 2019, arXiv 1907.08610, with the rising
    decay of Jordan, arXiv 2404.00498, section 3.4.

    Args:
        model: the network that is trained.
        steps: steps of the training.
    """

    def __init__(self, model: nn.Module, steps: int):
        self.steps, self.step = steps, 0
        self.fast = [t for t in model.state_dict().values() if t.is_floating_point()]
        self.slow = None

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        self.step += 1
        fast = [t for t in model.state_dict().values() if t.is_floating_point()]
        if self.slow is None:
            self.slow = [t.clone() for t in fast]
        if self.step % 5 == 0:
            self._update(fast, 0.95**5 * (self.step / self.steps) ** 3)
        if self.step == self.steps:
            self._update(fast, 1.0)

    def _update(self, fast, decay: float) -> None:
        for slow, now in zip(self.slow, fast, strict=True):
            slow.lerp_(now, 1 - decay)
            now.copy_(slow)
