"""SalUn: random labels, learned only by the weights that matter most for the forget set."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core.batches import Batches, fixed_order, read_pairs
from ..core.checks import check_number, check_precision
from ..core.devices import device_of
from ..core.gradients import sum_gradients
from ..core.layers import copy_of
from ..core.losses import classification_loss
from ..core.relabelling import minimise_relabelled


def saliency_unlearning(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    share: float = 0.5,
    redraw: str = "epoch",
    exclude_true: bool = False,
    order: str = "mixed",
    epochs: int = 5,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> nn.Module:
    """SalUn: random labels, learned by the weights that the forget loss depends on most.

    With g the gradient of the loss on the forget set, the sum over its batches of grad CE(f(x), y)
    at the given weights in eval mode, m is 1 for the int(share * P) largest |g| of all P entries
    of trainable parameters together (BatchNorm's and biases included), of equal ones the first, and
    0 elsewhere. Then, as ``random_labels`` does, with w <- m w + (1 - m) w_original and momentum
    <- m momentum after every step. Running statistics of BatchNorm are not masked.

    The defaults forget a class of MNIST (5,000 images, class 5): 0 % of it stay known to an MLP and
    5 % to a CNN, of the rest 99.8 %. Of a random tenth, 99 % are still answered rightly.

    Source: Fan et al., SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency,
    ICLR 2024 (arXiv 2310.12508), section 4, as in the authors' code since February 2026, where
    masked weights are put back; copies of the older code mask gradients alone, so that weight decay
    and momentum still move the rest. Differences: their code reads the mask from augmented images,
    this from whatever ``forget`` yields; and those of ``random_labels``.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget: the same, to be forgotten; read once more for the mask, which should come from
            images without augmentation.
        share: fraction of the trainable entries that may change, from 0 to 1 (random labels).
        redraw: when labels are drawn: "once", "epoch" or "batch"; see ``random_labels``.
        exclude_true: never give the true label.
        order: "mixed", both sets in the same batches, or "forget_first" in each epoch.
        epochs: passes over both sets.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        seed: random seed for the labels and dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``share`` is not between 0 and 1, ``redraw`` or ``order`` is none of these
            words, or the gradient is not finite.
    """
    share = check_number("share", share, "[0, 1]", "between 0 and 1")
    momentum = check_number("momentum", momentum, "[0, 1)")
    weight_decay = check_number("weight_decay", weight_decay, "[0, inf)")
    model = copy_of(model)
    trained = _trained(model)
    masks = _largest(_summed_gradient(model, forget), share)
    options = {"momentum": momentum, "weight_decay": weight_decay}
    sgd = torch.optim.SGD(trained, lr=0.0, fused=device_of(model).type != "mps", **options)
    return minimise_relabelled(
        model,
        retain,
        forget,
        redraw=redraw,
        exclude_true=exclude_true,
        order=order,
        epochs=epochs,
        lr=lr,
        optimizer=sgd,
        after_step=_freeze(trained, masks, sgd),
        seed=seed,
        title="SalUn",
    )


def _trained(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of which some entries may change."""
    check_precision(model)
    found = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError(
            "no parameter of the network requires a gradient, so there are none to choose from: "
            "call requires_grad_() on those that may change"
        )
    return found


def _summed_gradient(
    model: nn.Module, batches: Batches, loss: Callable[..., Tensor] = classification_loss
) -> list[Tensor]:
    """Sum over the batches of the gradient of each one's mean loss."""
    options = {"exact": True, "title": "SalUn"}
    with fixed_order(batches, device_of(model)):
        return sum_gradients(model, _trained(model), read_pairs(batches), loss, **options).sums


def _largest(gradient: list[Tensor], share: float) -> list[Tensor]:
    """Masks that are true for a share of all entries: the largest; of equal ones, the first."""
    sizes = torch.cat([one.abs().flatten() for one in gradient]).cpu()
    count = int(share * len(sizes))
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    if count:
        least = sizes.kthvalue(len(sizes) - count + 1).values
        chosen = sizes > least
        chosen[(sizes == least).nonzero()[: count - int(chosen.sum())]] = True
    parts = chosen.split([one.numel() for one in gradient])
    return [part.view(one.shape).to(one.device) for part, one in zip(parts, gradient, strict=True)]


def _freeze(
    trained: list[nn.Parameter], masks: list[Tensor], sgd: torch.optim.SGD
) -> Callable[[nn.Module], None]:
    """What restores, after a step, all entries outside the masks, and stops their momentum."""
    before = [p.detach().clone() for p in trained]

    def restore(_: nn.Module) -> None:
        for p, mask, value in zip(trained, masks, before, strict=True):
            p.copy_(torch.where(mask, p, value))  # by index: the memory layouts may differ
            momentum = sgd.state.get(p, {}).get("momentum_buffer")
            if momentum is not None:
                momentum.masked_fill_(~mask, 0)

    return restore
