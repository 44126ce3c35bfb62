"""Random labels: teach the network random answers on the forget set, the true ones on the rest."""

from __future__ import annotations

from torch import nn

from ..core.batches import Batches
from ..core.layers import copy_of
from ..core.relabelling import minimise_relabelled


def random_labels(
    model: nn.Module,
    retain: Batches,
    forget: Batches,
    *,
    redraw: str = "epoch",
    exclude_true: bool = False,
    order: str = "mixed",
    epochs: int = 5,
    lr: float = 0.05,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> nn.Module:
    """Train on random labels of the forget set and on the true labels of the retain set.

    Minimises the mean over both sets of CE(f(x), y'), where y' = y for a retained image and, for
    one to forget, y' is uniform over the K classes, or with ``exclude_true`` over all but y. The
    mean of that loss over y' is log K + KL(uniform || softmax f(x)), so that drawing labels again
    and again teaches the uniform answer; labels drawn once are memorised instead.

    The defaults forget a class of MNIST (5,000 images, class 5): 0 % of it stay known to an MLP and
    8 % to a CNN, of the rest 99.9 %. Of a random tenth, 98 and 99 % are still answered rightly.

    Source: the random-label baseline of Golatkar et al., Eternal Sunshine of the Spotless Net, CVPR
    2020 (arXiv 1911.04933), section 6; Graves et al., Amnesiac Machine Learning, AAAI 2021 (arXiv
    2010.10981): labels drawn once, never the true one; the code of SalUn (arXiv 2310.12508): per
    batch with all forget batches first, or per epoch with both sets shuffled together. All are
    values of three arguments here. Two differences: a mixed batch holds all images of a retain
    batch and their exact share of the forget set, where the released code shuffles both sets as
    one; and a cosine lowers the learning rate, which theirs keep.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget: the same, to be forgotten; labels are read only with ``exclude_true``.
        redraw: "once" draws one label per image and keeps the forget set in memory, so a loader's
            augmentation is drawn once too; "epoch" draws them anew for each epoch, from the seed
            and its number; "batch" from one generator that goes on. Each image is read once per
            epoch, so the last two differ in the numbers alone.
        exclude_true: never give the true label.
        order: "mixed" lets images of both sets go through the network in the same batches, one for
            each batch of ``retain``; "forget_first" takes, in each epoch, all batches of ``forget``
            and then all of ``retain``.
        epochs: passes over both sets.
        lr: first learning rate of SGD; a cosine takes it to 0.
        momentum: momentum of SGD.
        weight_decay: L2 penalty of SGD.
        seed: random seed for the labels and dropout.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if ``redraw`` or ``order`` is none of these words.
    """
    return minimise_relabelled(
        copy_of(model),
        retain,
        forget,
        redraw=redraw,
        exclude_true=exclude_true,
        order=order,
        epochs=epochs,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        seed=seed,
        title="random labels",
    )
