"""Boundary shrink: relabel each forgotten image with the nearest wrong class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..core.batches import Batches
from ..core.checks import TOLERANCE, check_logits, check_number
from ..core.layers import copy_of, unwrapped
from ..core.loop import minimise
from ..core.losses import cross_entropy
from ..core.statistics import keep_statistics
from ..core.wrong_classes import wrong_logits

Normalisation = tuple[float | Sequence[float], float | Sequence[float]]  # mean, std


def boundary_shrink(
    model: nn.Module,
    forget: Batches,
    forget_classes: int | Sequence[int],
    *,
    normalisation: Normalisation | None = None,
    eps: float = 0.1,
    exclude_true: bool = True,
    freeze_bn: bool = False,
    epochs: int = 10,
    lr: float = 1e-3,
    momentum: float = 0.9,
    seed: int = 0,
) -> nn.Module:
    r"""Relabel each forgotten image with the class across its nearest decision boundary.

    .. math:: \min_w \; E_{forget}[CE(f_w(x), y')], \quad y' = \arg\max_{k \ne y} f_o(x')_k

    x' = clamp(x + ``eps`` sign(grad_x CE(f_o(x), y)), 0, 1) is the image after one step of an
    attack on the original network o, in pixels from 0 to 1. So y' is the wrong class that the image
    is moved to most easily; it is none of ``forget_classes`` either. The retain set is not read.

    The defaults forget a class of 5,000 images of MNIST (3 seeds): of its images an MLP still knows
    0.0 % and a CNN 0.1 %, of the retain set 99.6 and 99.7 %, of other test images 95.0 and 97.1 %
    (a retrained one 95.5 and 97.7 %). BatchNorm's running statistics become those of the forget
    set, yet ``freeze_bn`` did more harm: the CNN kept 97.9 % of the retain set at this ``lr``, and
    98.9 % at the best one. It is for whole classes: with a random 10 % of the images, 66 % of the
    retain set stayed right.

    Source: Chen et al., Boundary Unlearning, CVPR 2023, arXiv 2303.11570 ("boundary shrink").
    Their y' may be the label itself, where the attack fails: then the class is learned again
    (``exclude_true=False``). Their code also rounds x' to whole grey levels, and its lr is 1e-5.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        forget: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget_classes: one or several classes, which no image is relabelled with.
        normalisation: (mean, std) of the images, per channel or one number each, on the scale of 0
            to 1; by default the images are pixels from 0 to 1 themselves.
        eps: step of the attack per pixel, on the scale of 0 to 1.
        exclude_true: relabel with wrong classes only, none of ``forget_classes``; otherwise with
            whatever the original network takes x' for.
        freeze_bn: use and keep BatchNorm's running statistics; its scales and shifts are trained.
        epochs: passes over the forget set; the attack is made anew in each.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: momentum of SGD.
        seed: random seed for dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``normalisation`` does not give pixels from 0 to 1, ``eps`` is negative, a
            class does not exist, or no class is left for an image.
    """
    eps = check_number("eps", eps, "[0, inf)")
    pixels = _Pixels(normalisation)
    original = unwrapped(copy_of(model).eval().requires_grad_(False))[0]
    student = keep_statistics(copy_of(model)) if freeze_bn else copy_of(model)

    def loss(student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits = check_logits(original(_attacked(original, images, labels, pixels, eps)))
        if exclude_true:
            logits = wrong_logits(logits, labels, forget_classes)
        return cross_entropy(student(images), logits.argmax(-1))

    sgd = {"lr": lr, "momentum": momentum, "seed": seed, "title": "boundary shrink"}
    return minimise(student, forget, loss, epochs=epochs, **sgd)


def _attacked(
    model: nn.Module, images: Tensor, labels: Tensor, pixels: _Pixels, eps: float
) -> Tensor:
    """One step of ``eps`` per pixel up the loss, within [0, 1] (FGSM), as images."""
    start = pixels.of(images)
    with torch.enable_grad():
        leaf = start.detach().requires_grad_()
        loss = cross_entropy(check_logits(model(pixels.normalised(leaf))), labels)
        (gradient,) = torch.autograd.grad(loss, leaf)
    return pixels.normalised((start + eps * gradient.sign()).clamp(0, 1))


class _Pixels:
    """Pixels from 0 to 1 of images (pixels - mean) / std, and back."""

    def __init__(self, normalisation: Normalisation | None):
        if normalisation is None:
            normalisation = (0.0, 1.0)
        if not isinstance(normalisation, list | tuple) or len(normalisation) != 2:
            raise ValueError(f"normalisation must be (mean, std), not {normalisation!r}")
        mean, std = normalisation
        self.mean = _numbers("mean", mean, "(-inf, inf)")
        self.std = _numbers("std", std, "(0, inf)")

    def of(self, images: Tensor) -> Tensor:
        """The pixels of normalised images (B, C, ...)."""
        mean, std = self._shaped(images)
        pixels = images * std + mean
        low, high = (float(pixels.detach().amin()), float(pixels.detach().amax()))
        if low < -TOLERANCE or high > 1 + TOLERANCE:
            raise ValueError(
                f"pixels go from {low:.3g} to {high:.3g}, but must lie between 0 and 1: give the "
                "normalisation of the images, (mean, std)"
            )
        return pixels

    def normalised(self, pixels: Tensor) -> Tensor:
        """The images of these pixels (B, C, ...)."""
        mean, std = self._shaped(pixels)
        return (pixels - mean) / std

    def _shaped(self, images: Tensor) -> list[Tensor]:
        """Mean and deviation, so that they broadcast over (B, C, ...)."""
        sizes = {len(self.mean), len(self.std)} - {1, images.shape[1]}
        if sizes:
            raise ValueError(
                f"normalisation is for {max(sizes)} channels, but images have {images.shape[1]}"
            )
        ones = [1] * (images.ndim - 2)
        return [images.new_tensor(part).view(-1, *ones) for part in (self.mean, self.std)]


def _numbers(name: str, values: float | Sequence[float], interval: str) -> list[float]:
    """One number or several as a list."""
    values = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    several = list(values) if isinstance(values, list | tuple) else [values]
    found = [check_number(f"{name} of normalisation", value, interval) for value in several]
    if not found:
        raise ValueError(f"{name} of normalisation is empty")
    return found
