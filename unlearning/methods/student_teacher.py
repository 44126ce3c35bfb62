"""Bad teacher: distil a good teacher on the retain set and a bad one on the forget set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.batches import Batches, Subsample, ZipCycle
from ..core.checks import check_logits, check_number
from ..core.devices import device_of, dtype_of
from ..core.layers import copy_of, reinitialise
from ..core.loop import minimise
from ..core.losses import kl_divergence


def student_teacher(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    bad_teacher: nn.Module | None = None,
    temperature: float = 1.0,
    retain_fraction: float = 0.3,
    epochs: int = 1,
    lr: float = 3e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
) -> nn.Module:
    r"""Distil a good teacher on the retain set and a bad one on the forget set.

    .. math:: \min_w \; E_{x \in retain \cup forget} \; KL(p_t(x) \,\|\, p_w(x))

    with p the softmax of logits / ``temperature``. The student w starts from the model. Its teacher
    t is the model itself on the retain set and ``bad_teacher`` on the forget set. Each step takes a
    batch of both, in one pass; the mean is over all their images. The forget set is cycled.

    Source: Chundawat et al., Can Bad Teaching Induce Forgetting?, AAAI 2023, section 4, and the
    authors' code (temperature 1, 30 % of the retain set, 1 epoch of Adam at 1e-4; a small network
    needs a larger rate). Their batches mix both sets in proportion, and their code also divides
    the divergence by K.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), not read.
        forget: the same, to be forgotten.
        bad_teacher: not changed; by default the model with new random weights.
        temperature: temperature of both softmaxes.
        retain_fraction: share of the retain batches that is read, in (0, 1], drawn once.
        epochs: passes over that share.
        lr: first learning rate of Adam; a cosine takes it to 0.
        weight_decay: L2 penalty of Adam.
        seed: random seed for the untrained teacher, the share that is read, and dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``temperature`` is not positive, ``retain_fraction`` is outside (0, 1], or
            the bad teacher has a different number of outputs.
    """
    temperature = check_number("temperature", temperature, "(0, inf)", "positive")
    share = check_number("retain_fraction", retain_fraction, "(0, 1]", "above 0 and at most 1")
    student, good = copy_of(model), copy_of(model).eval()
    if bad_teacher is None:
        bad = reinitialise(copy_of(model), seed=seed).eval()
    else:
        bad = copy_of(bad_teacher).to(device_of(model), dtype_of(model)).eval()

    def loss(student: nn.Module, *batch: Tensor) -> Tensor:
        retain_images, _, forget_images, _ = batch
        with torch.no_grad():
            teachers = _cat_outputs(good(retain_images), bad(forget_images)).float()
        logits = student(torch.cat([retain_images, forget_images])).float()
        target = (teachers / temperature).log_softmax(-1).exp()
        return kl_divergence(target, logits / temperature)

    both = ZipCycle(Subsample(retain, share, seed), forget)
    adam = {"optimizer": "adam", "lr": lr, "weight_decay": weight_decay, "seed": seed}
    return minimise(student, both, loss, epochs=epochs, title="bad teacher", **adam)


def _cat_outputs(good: Tensor, bad: Tensor) -> Tensor:
    """Both teachers' logits as one batch."""
    if isinstance(bad, Tensor) and check_logits(good).shape[-1] != bad.shape[-1]:
        raise ValueError(
            f"the bad teacher has {bad.shape[-1]} outputs, the network {good.shape[-1]}: both "
            "teachers must know the same classes"
        )
    return torch.cat([check_logits(good), check_logits(bad)])
