"""Impair and repair (UNSIR): teach error-maximising noise as the class, then repair the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..core.batches import Batches, Rereadable, classes_in, first_images, set_epoch
from ..core.checks import check_classes, check_number, check_pair, check_whole, class_list
from ..core.layers import copy_of, same_modes
from ..core.loop import minimise
from ..core.losses import classification_loss, cross_entropy
from ..core.randomness import generator_from
from ..training import predict

_ADAM = {"optimizer": "adam", "schedule": "constant"}


def impair_repair(
    model: nn.Module,
    retain: Batches,
    forget_classes: int | Sequence[int],
    *,
    noise_size: int = 256,
    noise_lr: float = 0.1,
    noise_steps: int = 40,
    noise_penalty: float = 0.1,
    noise_ratio: float = 0.64,
    impair_epochs: int = 1,
    impair_lr: float = 0.02,
    repair_epochs: int = 1,
    repair_lr: float = 0.01,
    seed: int = 0,
) -> nn.Module:
    """Overwrite a class with noise that maximises its error, then repair on the retain set.

    1. Noise: ``error_maximising_noise`` learns images that the network is least likely to take for
       the class c; one batch for each class to forget.
    2. Impair: Adam on E[CE(f(x), y)] over the retain set mixed with noise; the noise of class c is
       labelled c, so the weights that recognised c now recognise noise.
    3. Repair: Adam on E_retain[CE(f(x), y)].

    No forgotten image is read. The batches keep their order: those of ``curriculum(...)`` may be
    given.

    Source: Tarun et al., Fast Yet Effective Machine Unlearning (UNSIR), IEEE TNNLS 2023, algorithm
    1, with the learning rates and 5 x 8 noise steps of the authors' code. Three differences: here
    each retain batch is joined by noise drawn with replacement, by default in their proportion (20
    noise batches to 8,000 images); each class's noise keeps its own label, theirs has one for all;
    the noise is learned in eval mode, theirs in train mode, which moves BatchNorm statistics.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget_classes: one or several classes, none of which is in ``retain``.
        noise_size: number of noise images per class.
        noise_lr: learning rate of Adam for the noise, constant.
        noise_steps: steps of Adam for the noise.
        noise_penalty: weight of the noise's squared norm, which keeps it small.
        noise_ratio: noise images of each class per retained image in an impair batch.
        impair_epochs: passes over the retain set mixed with noise.
        impair_lr: learning rate of Adam, constant.
        repair_epochs: passes over the retain set; 0 leaves the network impaired.
        repair_lr: learning rate of Adam, constant.
        seed: random seed for the noise, the draws from it and dropout.

    Raises:
        Diverged: if a loss is no longer finite; names the step and the learning rate.
        ValueError: if ``forget_classes`` is empty, or a class does not exist or is retained; if
            ``noise_size`` or ``noise_ratio`` is not positive.
    """
    check_whole("noise_size", noise_size, least=1)
    check_number("noise_ratio", noise_ratio, "(0, inf)", "positive")
    check_number("noise_penalty", noise_penalty, "[0, inf)")
    retain = Rereadable(retain)
    images = first_images(retain)
    classes = _check_forgettable(model, retain, images, forget_classes)
    shape = images.shape[1:]
    options = {"lr": noise_lr, "steps": noise_steps, "penalty": noise_penalty, "seed": seed}
    noise = error_maximising_noise(model, classes, (noise_size, *shape), **options)
    model = copy_of(model)
    noisy = _WithNoise(retain, noise, noise_ratio, seed)
    adam, loss = {**_ADAM, "seed": seed}, classification_loss
    with same_modes(model):  # what was set to eval mode by hand stays so while repairing
        minimise(model, noisy, loss, epochs=impair_epochs, lr=impair_lr, title="impair", **adam)
    return minimise(model, retain, loss, epochs=repair_epochs, lr=repair_lr, title="repair", **adam)


def error_maximising_noise(
    model: nn.Module,
    classes: Sequence[int],
    shape: Sequence[int],
    *,
    lr: float = 0.1,
    steps: int = 40,
    penalty: float = 0.1,
    seed: int = 0,
) -> dict[int, Tensor]:
    """Learn, for each class, images that the network is least likely to take for that class.

    Starts from x ~ N(0, 1) and minimises -CE(f(x), c) + ``penalty`` mean ||x||^2 over the images by
    Adam. The network is fixed, in eval mode, and is not changed.

    Source: Tarun et al., IEEE TNNLS 2023, algorithm 1, as for ``impair_repair``.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        classes: one batch of noise is learned for each.
        shape: of a batch: (number of images, C, H, W).
        lr: learning rate of Adam, constant.
        steps: steps of Adam.
        penalty: weight of the squared norm, which keeps the noise small.
        seed: random seed for the first images, drawn class after class.

    Returns:
        {class: images of the given shape, normalised, on the model's device}.

    Raises:
        Diverged: if the loss is no longer finite; names the step and the learning rate.
        ValueError: if the network does not have a class.
    """
    frozen = copy_of(model).eval().requires_grad_(False)
    generator = generator_from(seed)
    noise = {}
    for label in classes:
        start = torch.randn(*shape, generator=generator).to(next(frozen.parameters()))
        images = nn.ParameterList([start])
        labels = torch.full(start.shape[:1], label, device=start.device)

        def loss(images: nn.ParameterList, labels: Tensor) -> Tensor:
            (x,) = images
            return penalty * x.square().flatten(1).sum(1).mean() - cross_entropy(frozen(x), labels)

        minimise(images, [(labels,)], loss, epochs=steps, lr=lr, title=f"noise {label}", **_ADAM)
        noise[label] = images[0].detach()
    return noise


class _WithNoise:
    """Batches of the retain set, each joined by ``ratio`` times as many noise images per class."""

    def __init__(self, retain: Batches, noise: dict[int, Tensor], ratio: float, seed: int):
        self.inner, self.noise, self.ratio = (retain,), noise, ratio
        self.generator = generator_from(seed)

    def __len__(self) -> int:
        return len(self.inner[0])

    def set_epoch(self, epoch: int) -> None:
        set_epoch(self.inner[0], epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self.inner[0]:
            images, labels = check_pair(batch)
            count = max(1, round(self.ratio * len(labels)))
            parts, targets = [images], [labels]
            for label, noise in self.noise.items():
                drawn = torch.randint(len(noise), (count,), generator=self.generator)
                parts.append(noise[drawn.to(noise.device)].to(images))
                targets.append(labels.new_full((count,), label))
            yield torch.cat(parts), torch.cat(targets)


def _check_forgettable(
    model: nn.Module, retain: Batches, images: Tensor, forget_classes: int | Sequence[int]
) -> list[int]:
    """The classes as a list, each known to the network and none of them retained."""
    retained, classes = classes_in(retain), class_list(forget_classes)
    known = predict(model, [(images, torch.zeros(len(images), dtype=torch.long))])[0].shape[-1]
    check_classes(classes, known)
    if not classes:
        raise ValueError(
            "forget_classes is empty: UNSIR forgets whole classes, so name at least one"
        )
    both = sorted(retained & set(classes))
    if both:
        raise ValueError(
            f"class {both[0]} is among the retained labels: remove its images from retain, or the "
            "class from forget_classes"
        )
    return classes
