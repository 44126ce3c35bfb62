"""Uniform target: teach the network to be undecided about the forget set."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..core.batches import Batches, ZipCycle, classes_in
from ..core.checks import check_number
from ..core.layers import copy_of
from ..core.loop import minimise
from ..core.losses import cross_entropy, kl_divergence, mean_squared_error, uniform

_OBJECTIVES = {"kl": kl_divergence, "mse": mean_squared_error}


def uniform_target(
    model: nn.Module,
    forget: Batches,
    *,
    retain: Batches | None = None,
    objective: str = "kl",
    forget_classes: int | Sequence[int] | None = None,
    alpha: float = 0.5,
    epochs: int = 1,
    lr: float = 1e-3,
    schedule: str = "cosine",
    optimizer_state: dict | None = None,
    seed: int = 0,
) -> nn.Module:
    """Pull the predictions on the forget set towards the uniform distribution over the classes.

    Minimises, with u_k = 1/K for every class,

        "kl":   E_forget[KL(u || softmax f(x))]
        "mse":  E_forget[mean_k (f_k(x) - u_k)^2], on the logits, as first published

    and, if ``retain`` is given, (1 - alpha) times that plus alpha E_retain[CE(f(x), y)]. Without
    the retain term the network learns the same answer to everything and collapses. BatchNorm sees
    the two batches of a step together. With ``forget_classes``, u_k = 0 for those, and the other
    classes share the rest: else a forgotten class may win by chance.

    Source: a public MNIST unlearning project (MSE on the logits, forget set alone, continuing with
    the Adam of training). The KL form, the retain term and ``forget_classes`` are ours; the KL form
    is, plus a constant, the expectation of the "random labels" of Golatkar et al. 2020.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        forget: batches of images (B, C, H, W), float, normalised, and labels (B,), long (not read).
        retain: the same, to be kept, labels read; the forget set is then cycled.
        objective: "kl" or "mse".
        forget_classes: classes left out of the uniform distribution; by default those of which
            ``retain``, if it is given, has no image and ``forget`` has some.
        alpha: weight of the retain term, between 0 and 1; not used without ``retain``.
        epochs: passes over ``retain``, or without it over ``forget``.
        lr: learning rate of Adam.
        schedule: "cosine" (to 0) or "constant".
        optimizer_state: ``state_dict()`` of the Adam that trained the model, to continue with its
            moments; not changed.
        seed: random seed for dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``objective`` is not "kl" or "mse", ``alpha`` is not between 0 and 1,
            ``forget_classes`` names a class that does not exist, or all of them, or the optimizer's
            state is not one of Adam for this network.
    """
    if objective not in _OBJECTIVES:
        raise ValueError(f'objective must be "kl" or "mse", not {objective!r}')
    alpha = check_number("alpha", alpha, "[0, 1]", "between 0 and 1")
    if forget_classes is None:
        forget_classes = () if retain is None else classes_in(forget) - classes_in(retain)

    def to_uniform(logits: Tensor) -> Tensor:
        target = uniform(logits.shape[-1], without=forget_classes).to(logits.device)
        return _OBJECTIVES[objective](target, logits)

    def forget_loss(model: nn.Module, forget_images: Tensor, _: Tensor) -> Tensor:
        return to_uniform(model(forget_images))

    def joint_loss(model: nn.Module, *batch: Tensor) -> Tensor:
        retain_images, retain_labels, forget_images, _ = batch
        logits = model(torch.cat([retain_images, forget_images]))
        retain_logits, forget_logits = logits.tensor_split([len(retain_labels)])
        retain_loss = cross_entropy(retain_logits, retain_labels)
        return alpha * retain_loss + (1 - alpha) * to_uniform(forget_logits)

    model = copy_of(model)
    adam = torch.optim.Adam(model.parameters(), lr)
    if optimizer_state is not None:
        _load_state(adam, optimizer_state)
    batches = forget if retain is None else ZipCycle(retain, forget)
    loss = forget_loss if retain is None else joint_loss
    options = {"optimizer": adam, "schedule": schedule, "title": "uniform target"}
    return minimise(model, batches, loss, epochs=epochs, lr=lr, seed=seed, **options)


def _load_state(adam: torch.optim.Adam, state: dict) -> None:
    """Continue with the moments of another Adam, of which nothing is changed."""
    parameters = [p for group in adam.param_groups for p in group["params"]]
    try:
        adam.load_state_dict(copy.deepcopy(state))  # Adam updates its moments in place
        kept = [adam.state[p]["exp_avg"].shape == p.shape for p in parameters if p in adam.state]
        fits = all(kept) and "betas" in adam.param_groups[0]
    except (AttributeError, KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            "optimizer_state is no state_dict() of an Adam for this network: give that, or leave "
            "it out"
        )
