"""Contrastive forgetting (FCS): make the forget set resemble all of the retain set equally."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..core.batches import Batches, Rereadable, ZipCycle
from ..core.checks import check_logits, check_number, check_whole
from ..core.layers import copy_of, same_modes
from ..core.loop import minimise
from ..core.losses import classification_loss, kl_divergence, uniform
from ..core.passes import FromEpoch
from ..core.randomness import generator_from


def contrastive(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    rounds: int = 8,
    temperature: float = 1.15,
    uniform_lr: float = 0.03,
    forget_lr: float = 3e-4,
    retain_lr: float = 4e-3,
    momentum: float = 0.9,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> nn.Module:
    r"""Flatten the predictions on the forget set, then alternate a contrast with repair.

    1. One pass over the forget set minimises KL(u || softmax f(x)), u uniform, at ``uniform_lr``.
    2. Each round first passes over the forget set, paired with batches of the retain set, and
       minimises

       .. math:: -\frac{1}{B B'} \sum_{i,j} \log \mathrm{softmax}_j (z_i \cdot z'_j / T)

       with z the B logits of forget images and z' the B' logits of retain images, which are fixed.
       It is at least log B', and equal to it where each forget image resembles all of these retain
       images equally. Then it passes over the retain set and minimises CE.

    The contrast's learning rate follows one cosine over all rounds, from ``forget_lr`` to 1e-6; the
    others are constant. Each of the three has its own SGD, whose momentum goes on from round to
    round; only the one on the retain set has a weight decay. Every pass reads a set in a new order.
    BatchNorm's statistics follow all images, those of the contrast too.

    The defaults forget class 5 of MNIST (0 and 14 % stay known to an MLP and a CNN, which keep 99
    and 100 % of the rest). Of a random tenth, 99 % stay known.

    Source: first prize of the NeurIPS 2023 unlearning challenge (fanchuan), as re-implemented by
    Cadet et al., Deep Unlearn, arXiv 2410.01276, with uniform_lr 5e-3, for a ResNet-18; that leaves
    53 % of the class known to the CNN. Their batches of the retain set hold 256 images; here they
    are as given.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget: the same, to be forgotten; labels are not read.
        rounds: of contrast and repair; 0 leaves the network after the first pass.
        temperature: T: the smaller, the more a single resemblance counts.
        uniform_lr: learning rate of the first pass.
        forget_lr: first learning rate of the contrast.
        retain_lr: learning rate of the passes over the retain set.
        momentum: momentum of SGD, in all of them.
        weight_decay: L2 penalty on the retain set.
        seed: random seed for dropout, and for the order of loaders.

    Raises:
        Diverged: if a loss is no longer finite; names the step and the learning rate.
        ValueError: if ``temperature`` is not positive.
    """
    rounds = check_whole("rounds", rounds)
    temperature = check_number("temperature", temperature, "(0, inf)", "positive")
    forget_lr = check_number("forget_lr", forget_lr, "[0, inf)")
    model, retain, forget = copy_of(model), Rereadable(retain), Rereadable(forget)
    seeds = torch.randint(2**31, (1 + 2 * rounds,), generator=generator_from(seed)).tolist()

    def contrast(model: nn.Module, *batch: Tensor) -> Tensor:
        forget_images, _, retain_images, _ = batch
        forget_logits = check_logits(model(forget_images))
        with torch.no_grad():
            retain_logits = model(retain_images)
        return _contrastive_loss(forget_logits, retain_logits, temperature)

    def minimise_once(batches: Iterable, loss: Callable, lr: float, **options) -> None:
        with same_modes(model):  # what was set to eval mode by hand stays so
            minimise(model, batches, loss, epochs=1, lr=lr, seed=seeds.pop(0), **options)

    first, away, back = (_sgd(model, momentum, decay) for decay in (0.0, 0.0, weight_decay))
    steady = {"schedule": "constant", "title": "FCS"}
    minimise_once(forget, _uniform_loss, uniform_lr, optimizer=first, **steady)
    for number in range(rounds):
        pairs = ZipCycle(FromEpoch(forget, 1 + number), FromEpoch(retain, 2 * number))
        falling = _cosine(forget_lr, number * len(forget), rounds * len(forget))
        options = {"optimizer": away, "schedule": falling, "title": "FCS"}
        minimise_once(pairs, contrast, forget_lr, **options)
        rest = FromEpoch(retain, 2 * number + 1)
        minimise_once(rest, classification_loss, retain_lr, optimizer=back, **steady)
    return model.eval()


def _contrastive_loss(forget_logits: Tensor, retain_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each forget image's resemblance to retain images, against uniform.

    In float32 at least, since bfloat16 would round the products.
    """
    dtype = torch.promote_types(forget_logits.dtype, torch.float32)
    with torch.autocast(forget_logits.device.type, enabled=False):
        similarity = forget_logits.to(dtype) @ retain_logits.detach().to(dtype).T
    return -(similarity / temperature).log_softmax(-1).mean()


def _uniform_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    logits = check_logits(model(images))
    return kl_divergence(uniform(logits.shape[-1]).to(logits.device), logits)


def _sgd(model: nn.Module, momentum: float, weight_decay: float) -> torch.optim.SGD:
    """SGD on what is not frozen; ``minimise`` sets its learning rate."""
    momentum = check_number("momentum", momentum, "[0, 1)")
    weight_decay = check_number("weight_decay", weight_decay, "[0, inf)")
    parameters = list(model.parameters())
    return torch.optim.SGD(parameters, 0.0, momentum=momentum, weight_decay=weight_decay)


def _cosine(lr: float, first: int, steps: int) -> Callable[[int], float]:
    """Factor of ``lr`` at a step of one round: of a cosine over all rounds, which ends at 1e-6."""
    last = min(1.0, 1e-6 / max(lr, 1e-6))

    def factor(step: int) -> float:
        return last + (1 - last) * (1 + math.cos(math.pi * (first + step) / steps)) / 2

    return factor
