"""Convex heads: linear classifiers on frozen features, trained to the minimum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_labels, check_number, kind_of, whole_labels
from .randomness import generator_from

LIPSCHITZ = {"ridge": 0.0, "logistic": 0.25}  # of the loss's second derivative; 1/4 as published
TOLERANCE, STEPS = 1e-9, 100  # of Newton's method: norm of the gradient, most steps


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier without biases, each class against all others, in float64.

    For each class, it minimises sum_i l(y_i, w . x_i) + lam n / 2 ||w||^2 + b . w over n examples,
    y_i = 1 for those of the class and -1 for the others. The loss l is (w . x - y)^2 / 2 ("ridge")
    or log(1 + exp(-y w . x)) ("logistic").
    """

    weight: Tensor  # one row w per class, (K, D)
    noise: Tensor  # one row b per class, (K, D): from N(0, sigma^2), to be kept secret
    kind: str
    lam: float
    sigma: float
    count: int  # n
    bound: Tensor  # on the norm of the gradient that training and removals left over, (K,)

    def scores(self, features: Tensor) -> Tensor:
        """Scores (N, K), the largest at the answer."""
        return features.to(self.weight) @ self.weight.T

    def gradient(self, features: Tensor, labels: Tensor) -> Tensor:
        """Gradient of what is minimised over these examples, (K, D)."""
        x, y = examples_of(features, labels, len(self.weight), self.kind)
        return self.slopes(x, y).T @ x + self.lam * len(x) * self.weight + self.noise

    def hessian(self, features: Tensor) -> Tensor:
        """Hessian of what is minimised, (K, D, D); of the squared loss (1, D, D), for all alike."""
        x = features.to(self.weight)
        curvature = torch.ones_like(x[:, :1])
        if self.kind == "logistic":
            p = self.scores(x).sigmoid()
            curvature = p * (1 - p)
        products = torch.stack([x.T @ (x * one[:, None]) for one in curvature.T])
        return products + self.lam * len(x) * torch.eye(x.shape[1]).to(x)

    def epsilon(self, delta: float = 1e-4) -> float:
        """The epsilon of the certificate: sqrt(2 log(1.5 / delta)) ||bound||_2 / sigma.

        It holds for all classes together, whose noise is one vector. The theorem's Gaussian bound
        is good for values of at most 2.
        """
        check_number("delta", delta, "(0, 1)")
        left_over = float(self.bound.norm())
        if self.sigma == 0:
            return math.inf if left_over else 0.0
        return math.sqrt(2 * math.log(1.5 / delta)) * left_over / self.sigma

    def slopes(self, x: Tensor, y: Tensor) -> Tensor:
        """Derivative l' of the loss by the score, for each example and class, (N, K)."""
        z = x @ self.weight.T
        return z - y if self.kind == "ridge" else -y * torch.sigmoid(-y * z)


def fit_head(
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int | None = None,
    kind: str = "logistic",
    lam: float = 1e-3,
    sigma: float = 0.0,
    seed: int = 0,
) -> Head:
    """Train a ``Head`` by Newton's method; of the squared loss, its first step is the solution.

    Args:
        features: (N, D); for "logistic", no row may be longer than 1. A network that makes them
            must be trained on other data, or nothing is guaranteed: its weights would remember.
        labels: whole numbers, (N,).
        num_classes: by default as many as ``labels`` name.
        kind: "ridge" or "logistic".
        lam: weight decay per example.
        sigma: standard deviation of the noise b, which the certificate needs and accuracy pays for.
        seed: random seed for the noise. Who knows it can subtract the noise: keep it secret.

    Raises:
        ValueError: if features or labels have another form, or a row is too long.
    """
    if kind not in LIPSCHITZ:
        raise ValueError(f"there is no head {kind!r}: choose ridge or logistic")
    lam, sigma = check_number("lam", lam, "(0, inf)"), check_number("sigma", sigma, "[0, inf)")
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    x, _ = examples_of(features, labels, classes, kind)
    drawn = torch.randn(classes, x.shape[1], generator=generator_from(seed), dtype=x.dtype)
    noise = sigma * drawn.to(x.device)
    head = Head(torch.zeros_like(noise), noise, kind, lam, sigma, len(x), noise.new_zeros(classes))
    for _ in range(1 if kind == "ridge" else STEPS):
        gradient, size = head.gradient(x, labels), 2.0
        if gradient.norm() <= TOLERANCE:
            break
        step, old = solve(head.hessian(x), gradient), head
        while size > 1e-6 and (head is old or head.gradient(x, labels).norm() > gradient.norm()):
            size /= 2
            head = replace(old, weight=old.weight - size * step)
    left_over = head.gradient(x, labels).norm(dim=1)
    return replace(head, bound=left_over if LIPSCHITZ[kind] else head.bound)


def solve(hessian: Tensor, gradient: Tensor) -> Tensor:
    """The Newton step H^-1 g of each class, (K, D)."""
    return torch.linalg.solve(hessian, gradient[..., None])[..., 0]


def examples_of(features: Tensor, labels: Tensor, classes: int, kind: str) -> tuple[Tensor, Tensor]:
    """Features (N, D), float64, and their targets, 1 for the class and -1 for others, (N, K)."""
    whole = features.ndim == 2 and len(features) and features.is_floating_point()
    if not whole or not features.isfinite().all():
        raise ValueError(f"features must be finite floats (N, D), not {kind_of(features)}")
    labels = whole_labels(labels, len(features))
    check_labels(labels, classes)
    longest = float(features.double().norm(dim=1).max())
    if kind == "logistic" and longest > 1 + 1e-6:
        raise ValueError(
            f"a row of features has norm {longest:.3g}, but the bound needs at most 1: divide each "
            "row by its own norm, not by one of the whole set, which other rows would depend on"
        )
    targets = 2 * F.one_hot(labels, classes) - 1
    return features.double(), targets.to(features.device).double()
