"""Impair and repair (UNSIR): noise that the network gets most wrong, taught as the class."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ..core.batches import Batches, materialize, set_epoch
from ..core.devices import device_of, seeded
from ..core.loop import minimise
from ..core.losses import check_classes, class_list, classification_loss, cross_entropy
from ..training import predict

Noise = dict[int, Tensor]
"""Learned noise: class -> images (noise_size, C, H, W), normalised."""


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

    1. Noise: for each forgotten class c, a batch x of images, from N(0, 1), minimises
       -CE(f(x), c) + ``noise_penalty`` mean_x ||x||^2 by Adam, the network fixed.
    2. Impair: Adam on E[CE(f(x), y)] over the retain set mixed with the noise, the noise of class c
       labelled c. The weights that said c now say it of noise.
    3. Repair: Adam on E_retain[CE(f(x), y)].

    No forgotten image is read. Each step's order is that of ``retain``: give the batches of a
    ``curriculum`` to have one.

    Source: Tarun et al., Fast Yet Effective Machine Unlearning (UNSIR), IEEE TNNLS 2023, algorithm
    1, with the learning rates and 5 x 8 steps of the authors' code. There 20 copies of the noise
    batch of each class are shuffled among 8,000 retained images; here every batch of the retain set
    is joined by ``noise_ratio`` times as many noise images a class, drawn with replacement, in the
    same proportion by default. There the noise of all classes was labelled as one class, and the
    network was in train mode while the noise was learned, which moved its BatchNorm statistics;
    here each class has its own label, and the network is read in eval mode.

    Args:
        model: classifier, (B, C, H, W) -> logits (B, K); not changed.
        retain: batches of images (B, C, H, W), float, normalised, and labels (B,), long.
        forget_classes: the class or classes to forget, none of which is in ``retain``.
        noise_size: noise images of each class.
        noise_lr: of Adam, for the noise.
        noise_steps: steps of Adam, for the noise.
        noise_penalty: weight of the noise's squared norm, which keeps it from growing.
        noise_ratio: noise images of each class for one retained image, while impairing.
        impair_epochs: passes over the retain set mixed with noise.
        impair_lr: learning rate of Adam, constant.
        repair_epochs: passes over the retain set; 0 leaves the network impaired.
        repair_lr: learning rate of Adam, constant.
        seed: random seed for the noise, its draws and dropout.

    Raises:
        Diverged: when a loss is no longer finite; names the step and the learning rate.
        ValueError: a class that the network does not have or that is retained; no class to forget;
            a size or ratio that gives no noise.
    """
    if noise_size < 1 or not 0 < noise_ratio < math.inf:
        raise ValueError(
            f"noise_size and noise_ratio must be positive, not {noise_size} and {noise_ratio}"
        )
    retain = materialize(retain)
    with seeded(seed, device_of(model)):  # a DataLoader draws whenever it is read
        classes = _check_forgettable(model, retain, forget_classes)
        shape = next(iter(retain))[0].shape[1:]
    noise = error_maximising_noise(
        model,
        classes,
        (noise_size, *shape),
        lr=noise_lr,
        steps=noise_steps,
        penalty=noise_penalty,
        seed=seed,
    )
    model = copy.deepcopy(model)
    adam = {"optimizer": "adam", "schedule": "constant", "seed": seed}
    noisy, loss = _WithNoise(retain, noise, noise_ratio, seed), classification_loss
    minimise(model, noisy, loss, epochs=impair_epochs, lr=impair_lr, title="impair", **adam)
    return minimise(model, retain, loss, epochs=repair_epochs, lr=repair_lr, title="repair", **adam)


def error_maximising_noise(
    model: nn.Module,
    classes: Sequence[int],
    shape: Sequence[int],
    *,
    lr: float,
    steps: int,
    penalty: float,
    seed: int,
) -> Noise:
    """Images (shape: noise_size, C, H, W) of each class, that the network least takes for it."""
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    noise = {}
    for label in classes:
        start = torch.randn(*shape, generator=generator).to(next(frozen.parameters()))
        images = nn.ParameterList([start])
        labels = torch.full(start.shape[:1], label, device=start.device)

        def loss(images: nn.ParameterList, labels: Tensor) -> Tensor:
            (x,) = images
            return penalty * x.square().flatten(1).sum(1).mean() - cross_entropy(frozen(x), labels)

        minimise(
            images,
            [(labels,)],
            loss,
            epochs=steps,
            lr=lr,
            optimizer="adam",
            schedule="constant",
            title=f"noise of class {label}",
        )
        noise[label] = images[0].detach()
    return noise


class _WithNoise:
    """Batches of the retain set, each joined by noise images with the labels of their classes."""

    def __init__(self, retain: Batches, noise: Noise, ratio: float, seed: int):
        self.retain, self.noise, self.ratio = retain, noise, ratio
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.retain)

    def set_epoch(self, epoch: int) -> None:
        set_epoch(self.retain, epoch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.retain:
            count = max(1, round(self.ratio * len(labels)))
            parts, targets = [images], [labels]
            for label, noise in self.noise.items():
                drawn = torch.randint(len(noise), (count,), generator=self.generator)
                parts.append(noise[drawn.to(noise.device)].to(images))
                targets.append(labels.new_full((count,), label))
            yield torch.cat(parts), torch.cat(targets)


def _check_forgettable(
    model: nn.Module, retain: Batches, forget_classes: int | Sequence[int]
) -> list[int]:
    """The classes as a list, each known to the network and none of them retained."""
    retained = {int(label) for _, labels in retain for label in labels.unique()}
    classes = class_list(forget_classes)
    check_classes(classes, predict(model, [next(iter(retain))])[0].shape[-1])
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
