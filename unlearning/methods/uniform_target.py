"""Uniform target: teach the network to have no opinion about what is to be forgotten."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..data import Batches
from ..training import cross_entropy, minimise
from .negative_gradient import Paired, beside


def uniform_target(
    model: nn.Module,
    forget: Batches,
    *,
    retain: Batches | None = None,
    loss: str = "kl",
    forget_classes: Sequence[int] = (),
    alpha: float = 0.5,
    epochs: int = 1,
    lr: float = 1e-3,
    schedule: str = "cosine",
    optimizer_state: dict | None = None,
    seed: int = 0,
) -> nn.Module:
    """Pull the predictions on the forget set towards the uniform distribution over the classes.

    Minimises, with u_k = 1/K for each class,

        "kl":   E_forget[KL(u || softmax f(x))]
        "mse":  E_forget[mean_k (f_k(x) - u_k)^2], on the logits, as first published

    and, when ``retain`` is given, (1 - alpha) of that plus alpha E_retain[CE(f(x), y)]. Without the
    retain term the network is taught the same answer to everything, and collapses. BatchNorm sees
    the two batches of a step together.

    Where all probabilities are the same, the largest one is a matter of chance, and the forgotten
    class may win. ``forget_classes`` have u_k = 0, the others share it: the network is then to be
    undecided among the classes that it still knows, as one is that was retrained without them.

    Source: a public MNIST unlearning project (MSE on the logits, forget set alone, Adam carried on
    from training); the KL form, the retain term and the classes left out are ours, after the
    "random labels" of Golatkar et al. 2020, whose expectation it is.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        forget: batches of images (B, C, H, W), float, normalised, and labels (B,), long (not read).
        retain: the same, of what stays; an epoch is then a pass over it, with the forget set coming
            round as often as needed.
        loss: "kl" or "mse".
        forget_classes: left out of the uniform distribution; none by default, as first published.
        alpha: weight of the retain term, between 0 and 1; not used without ``retain``.
        epochs: passes over ``retain``, or without it over ``forget``.
        lr: learning rate of Adam.
        schedule: "cosine" (to 0) or "constant".
        optimizer_state: ``state_dict()`` of the Adam that trained the model, to carry on with its
            moments.
        seed: of dropout.

    Raises:
        Diverged: when the loss is no longer finite; names the step and the learning rate.
        ValueError: another word for ``loss``; an alpha outside [0, 1]; classes that the network
            does not have, or all that it has.
    """
    if loss not in LOSSES:
        raise ValueError(f'loss must be "kl" or "mse", not {loss!r}')
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, not {alpha}")

    def to_uniform(logits: Tensor) -> Tensor:
        return LOSSES[loss](logits, uniform_without(forget_classes, logits))

    def forget_alone(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return to_uniform(model(images))

    def both(model: nn.Module, images: Tensor, labels: Tensor, forgotten: Tensor, _: Tensor):
        count = labels.shape[-1]
        logits = model(beside(images, forgotten))
        kept, lost = logits[..., :count, :], logits[..., count:, :]
        return alpha * cross_entropy(kept, labels) + (1 - alpha) * to_uniform(lost)

    model = copy.deepcopy(model)
    adam = torch.optim.Adam(model.parameters(), lr)
    if optimizer_state is not None:
        adam.load_state_dict(copy.deepcopy(optimizer_state))  # Adam would go on in its tensors
    return minimise(
        model,
        forget if retain is None else Paired(retain, forget),
        forget_alone if retain is None else both,
        epochs=epochs,
        lr=lr,
        optimizer=adam,
        schedule=schedule,
        seed=seed,
        title="uniform target",
    )


def uniform_without(classes: Sequence[int], logits: Tensor) -> Tensor:
    """The uniform distribution over all but ``classes``, (K,)."""
    num_classes = logits.shape[-1]
    if not set(classes) < set(range(num_classes)):
        raise ValueError(
            f"forget_classes {list(classes)} must be some, not all, of the classes 0 to "
            f"{num_classes - 1} of the network"
        )
    u = torch.ones(num_classes, device=logits.device)
    u[list(classes)] = 0
    return u / u.sum()


def kl_to(logits: Tensor, u: Tensor) -> Tensor:
    """KL(u || softmax), mean over the batch and sum over members."""
    log_p = logits.float().log_softmax(-1)  # bfloat16 cannot tell log K from its neighbours
    return (torch.xlogy(u, u).sum() - (u * log_p).sum(-1)).mean(-1).sum()


def mse_to(logits: Tensor, u: Tensor) -> Tensor:
    """Mean over classes of (logit - u)^2, mean over the batch and sum over members."""
    return (logits.float() - u).square().mean(-1).mean(-1).sum()


LOSSES = {"kl": kl_to, "mse": mse_to}
