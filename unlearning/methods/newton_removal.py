"""Newton removal: one Newton step takes examples out of a linear head on frozen features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ..core.checks import check_positions
from ..core.heads import LIPSCHITZ, Head, examples_of, solve


class BudgetExceeded(ValueError):
    """The certificate does not cover this removal: train the head again, with new noise."""


def newton_removal(
    head: Head,
    features: Tensor,
    labels: Tensor,
    positions: Tensor | Iterable[int],
    *,
    epsilon: float | None = None,
    delta: float = 1e-4,
) -> Head:
    """Take examples out of a head by one Newton step towards the solution without them.

    w <- w + H^-1 (sum_S l'(x) x + lam m w), with H the Hessian over the n - m examples R that are
    left, and the removed ones S. For "ridge", this is the head that ``fit_head`` finds on R, up to
    rounding. For "logistic", it leaves a gradient over, whose norm grows by at most
    1/4 ||X_R||_2 ||d||_2 ||X_R d||_2 with the step d: ``bound`` adds this up over requests, and
    noise hides it (``Head.epsilon``). For m examples that are alike, m requests leave over an m-th
    of what one request leaves; for mixed ones, about as much.

    Source: Guo et al., Certified Data Removal from Machine Learning Models, ICML 2020, arXiv
    1911.03030, sections 3.1 to 3.3. Two differences: what training itself left of the gradient
    counts as well, and one certificate covers all classes, for which their bounds are added in
    squares.

    Args:
        head: as ``fit_head`` or this function returns it; not changed.
        features, labels: what the head stands for: of a second request, without the first one.
        positions: of the examples to remove, in ``features``.
        epsilon: the budget: most that the certificate may say; by default there is none.
        delta: of the certificate.

    Raises:
        BudgetExceeded: if the certificate's epsilon would be above the budget.
        ValueError: if the head stands for another number of examples, a position does not exist,
            or none would be left.
    """
    x, y = examples_of(features, labels, len(head.weight), head.kind)
    if len(x) != head.count:
        raise ValueError(f"the head stands for {head.count} examples, but {len(x)} are given")
    gone = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    gone[check_positions(positions, len(x)).to(x.device)] = True
    if gone.all():
        raise ValueError("these are all examples: nothing would be left to stand for")
    rest, removed = x[~gone], head.slopes(x[gone], y[gone]).T @ x[gone]
    step = solve(head.hessian(rest), removed + head.lam * int(gone.sum()) * head.weight)
    largest = torch.linalg.eigvalsh(rest.T @ rest)[-1].sqrt()  # singular value of the examples
    bound = largest * step.norm(dim=1) * (rest @ step.T).norm(dim=0)
    bound = head.bound + LIPSCHITZ[head.kind] * bound
    found = replace(head, weight=head.weight + step, count=len(rest), bound=bound)
    if epsilon is not None and found.epsilon(delta) > epsilon:
        raise BudgetExceeded(
            f"epsilon would be {found.epsilon(delta):.3g}, above {epsilon:g}: train again by "
            "fit_head on what is left, with another seed"
        )
    return found


def removals(
    head: Head,
    features: Tensor,
    labels: Tensor,
    positions: Tensor | Iterable[int],
    *,
    epsilon: float | None = None,
    delta: float = 1e-4,
) -> Iterator[tuple[Head, Tensor, Tensor]]:
    """Remove examples one by one, and yield each head with the features and labels that are left.

    It ends before the first removal that the budget ``epsilon`` does not cover. Arguments as
    ``newton_removal``; ``positions`` are those in ``features``, whatever was removed before.
    """
    left = torch.arange(len(features))
    for position in check_positions(positions, len(features)).tolist():
        own, budget = (left == position).nonzero(), {"epsilon": epsilon, "delta": delta}
        try:
            head = newton_removal(head, features[left], labels[left], own, **budget)
        except BudgetExceeded:
            return
        left = left[left != position]
        yield head, features[left], labels[left]


def removed_sum(before: Head, after: Head, features: Tensor) -> Tensor:
    """What two heads reveal of the examples between them: sum_S l'(x) x per class, (K, D).

    H (w_after - w_before) - lam m w_before, whatever noise the heads share. It is exact if
    ``features`` are those that were retained, and close to it with others of their kind, from which
    H is then estimated. After the removal of one example, each row is a multiple of its x.

    Source: Bertran et al., Reconstruction Attacks on Machine Unlearning, NeurIPS 2024, arXiv
    2405.20272. Here a weight decay that depends on n is taken off as well.
    """
    step = (after.weight - before.weight)[..., None]
    hessian = before.hessian(features) * (after.count / len(features))
    return (hessian @ step)[..., 0] - before.lam * (before.count - after.count) * before.weight
