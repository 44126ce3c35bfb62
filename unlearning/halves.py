"""What does a network learn by heart: many of them, each trained on a random half of the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from .core.checks import check_whole
from .core.files import CHECKPOINTS
from .core.identity import described
from .core.images import Images
from .core.randomness import order_of
from .many import Arrays, run_many
from .metrics import Memorisation, memorisation
from .training import (
    augmentation_of,
    digest_of_images,
    fresh_network,
    identity_of_network,
    pick_device,
    predict,
    train,
)


def train_on_halves(
    images: Images,
    *,
    epochs: int,
    lr: float,
    networks: int = 32,
    model: str | Callable[[], nn.Module] = "mlp",
    batch_size: int = 64,
    augment: bool | str = False,
    folder: Path | str = CHECKPOINTS / "halves",
    n_jobs: int | None = None,
    **training: Any,
) -> Arrays:
    """Train networks on random halves of the images, and keep who is right on which image.

    Networks 0 and 1 are trained on the two halves of one random draw, 2 and 3 on those of the next:
    so an even number of networks had each image equally often as not. A stopped run continues, and
    more networks add to those that there are.

    Args:
        images: training set, all of it.
        epochs, lr: as ``train``.
        networks: how many. 32 tell thirds apart; the highest tenth takes 16 where most images are
            easy, as in MNIST, and 64 to 128 where they are hard.
        model: as ``load_or_train``. What is memorised depends on the network and its training.
        batch_size, augment: as ``Images.batches``.
        folder: for what is kept.
        n_jobs: processes, as ``run_many``.
        **training: other arguments of ``train``.

    Returns:
        {"correct": (N, S) bool, "member": (N, S) bool}, one row per network, as
        ``metrics.memorisation`` takes them.

    Raises:
        ValueError: if there are fewer than two networks, or images; or if ``fresh_network`` raises
            one.
    """
    networks = check_whole("networks", networks, least=2)
    if len(images) < 2:
        raise ValueError("one image has no halves: give two or more")
    options = {"epochs": epochs, "lr": lr, **training}
    configuration = {
        "images": digest_of_images(images),
        "num_classes": images.num_classes,
        **identity_of_network(model, fresh_network(model, images, seed=0)),
        "batch_size": batch_size,
        "augment": augmentation_of(images, augment),
        "training": described(options),
    }
    there = images.to(pick_device())

    def row(number: int) -> tuple[np.ndarray, np.ndarray]:
        own = _half(len(there), number)
        part = there.select(own)
        network = fresh_network(model, part, number).to(part.device)
        batches = part.batches(batch_size, shuffle=True, seed=number, augment=augment)
        train(network, batches, seed=number, **options)
        logits, labels = predict(network, there.sequential_batches())
        member = np.zeros(len(there), bool)
        member[own.numpy()] = True
        return (logits.argmax(1) == labels).numpy(), member

    def measure(numbers: list[int]) -> Arrays:
        correct, member = zip(*map(row, numbers), strict=True)
        return {"correct": np.array(correct), "member": np.array(member)}

    return run_many(
        measure,
        range(networks),
        path=folder,
        configuration=configuration,
        group=1,
        n_jobs=n_jobs,
        title="halves",
    )


def memorisation_on_halves(images: Images, **options: Any) -> Memorisation:
    """How much each image is memorised, and the standard error: ``memorisation`` of these networks.

    Args:
        images: training set, all of it.
        **options: as ``train_on_halves``.
    """
    return memorisation(**train_on_halves(images, **options))


def _half(count: int, number: int) -> Tensor:
    """Positions of the images that this network is trained on."""
    return order_of(count, number // 2).tensor_split(2)[number % 2]
