"""Train a network, keep it, and predict with it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .core.batches import Batches, fixed_order, read_pairs
from .core.checkpoints import load_checkpoint, save_checkpoint
from .core.checks import (
    check_labels,
    check_logits,
    check_module,
    warn_of_batch_statistics,
    warn_of_probabilities,
)
from .core.configuration import digest_of
from .core.devices import (
    device_of,
    dtype_of,
    on_device,
    performance_settings,
    pick_device,
    use_channels_last,
)
from .core.files import CHECKPOINTS, places, slug
from .core.identity import identity_of
from .core.layers import eval_mode
from .core.loop import Diverged, Timed, minimise, timed
from .core.losses import classification_loss
from .core.randomness import seeded
from .data import Images
from .models import build, check_network, name_of, own_network

__all__ = [
    "Diverged",
    "Timed",
    "digest_of_images",
    "fresh_network",
    "identity_of_own",
    "load_or_train",
    "minimise",
    "pick_device",
    "predict",
    "set_seed",
    "timed",
    "train",
]

SETTINGS = ("kernel_size", "stride", "padding", "dilation", "groups", "eps", "momentum", "p")


def set_seed(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, for code outside this package."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, the global generator is the point
    torch.manual_seed(seed)


def train(
    model: nn.Module,
    batches: Batches,
    *,
    epochs: int,
    lr: float,
    optimizer: str | torch.optim.Optimizer = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    mixed_precision: bool | None = None,
    seed: int = 0,
) -> nn.Module:
    """Train a classifier by cross-entropy, in place; returned in eval mode. See ``minimise``."""
    return minimise(
        model,
        batches,
        classification_loss,
        epochs=epochs,
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        mixed_precision=mixed_precision,
        seed=seed,
    )


def predict(model: nn.Module, batches: Batches) -> tuple[Tensor, Tensor]:
    """Logits (S, K), float32, and labels (S,) of all batches, in their order, on the CPU.

    The network runs in eval mode; every module is left in the mode that it was in. A loader that
    shuffles comes in the same order every time, and all random state is left as it was, so that
    two networks can be compared example by example: see ``minimise`` for what that covers.

    Raises:
        ValueError: if there are no batches, or they are not pairs of images and labels; if the
            network returns anything but finite logits, or labels are out of range.

    Warns:
        UserWarning: if the outputs are probabilities, of a network that ends in a softmax, or
            depend on the batch, where a BatchNorm keeps no statistics.
    """
    check_module(model)
    warn_of_batch_statistics(model)
    device, channels_last, dtype = device_of(model), use_channels_last(model), dtype_of(model)
    logits, labels = [], []
    with (
        torch.no_grad(),
        eval_mode(model),
        performance_settings(model),
        fixed_order(batches, device),
    ):
        for images, targets in read_pairs(batches, once=True):
            (images,) = on_device([images], device, channels_last, dtype)
            logits.append(check_logits(model(images)).float())
            labels.append(targets)
    if not logits:
        raise ValueError("the loader yielded no batches: there is nothing to predict")
    logits, labels = torch.cat(logits).cpu(), torch.cat(labels).cpu()
    if not logits.isfinite().all():
        raise ValueError("the network's outputs are not finite: its weights or the images hold NaN")
    check_labels(labels, logits.shape[-1])
    warn_of_probabilities(logits)
    return logits, labels


def load_or_train(
    images: Images,
    *,
    model: str | Callable[[], nn.Module],
    epochs: int,
    lr: float,
    batch_size: int = 64,
    optimizer: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    schedule: str = "cosine",
    augment: bool | str = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    folder: Path | str = CHECKPOINTS,
) -> Timed:
    """Load the network trained on exactly these images in exactly this way, or train and save it.

    The configuration (all arguments, and digests of images and layers) is stored in the file and
    its digest is part of the name, so another configuration is another file.

    Args:
        images: training set.
        model: name of a network, as ``build`` takes it, or a function that makes your own, called
            without arguments under the seed; an edit of it makes another file.
        epochs, lr, optimizer, momentum, weight_decay, schedule: as ``minimise``.
        batch_size: images in a batch.
        augment: whether images are cropped, and mirrored where the set allows it; or "alternate",
            as ``Images.batches``: mirrored in turn where it does.
        seed: random seed for initialisation, order and augmentation.
        device: where to train; by default the best there is.
        folder: folder of the checkpoints.

    Returns:
        (network in eval mode, seconds that its training took)

    Raises:
        ValueError: if ``fresh_network`` raises one.
    """
    device = pick_device() if device is None else torch.device(device)
    network = fresh_network(model, images, seed)
    about = identity_of_network(model, network)
    network.to(device)
    configuration = {
        "images": digest_of_images(images),
        "num_classes": images.num_classes,
        **about,
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "augment": augmentation_of(images, augment),
        "seed": seed,
    }
    name = model.replace("/", "-") if isinstance(model, str) else slug(name_of(model))
    path = Path(folder) / f"{name}-{digest_of(configuration)}.pt"
    if found := next(filter(Path.exists, places(path)), None):
        return Timed(network, load_checkpoint(found, network, configuration))
    batches = images.batches(batch_size, shuffle=True, seed=seed, augment=augment, device=device)
    trained = timed(
        train,
        network,
        batches,
        epochs=epochs,
        lr=lr,
        optimizer=optimizer,
        momentum=momentum,
        weight_decay=weight_decay,
        schedule=schedule,
        seed=seed,
    )
    save_checkpoint(path, network, configuration, seconds=trained.seconds)
    return trained


def fresh_network(model: str | Callable[[], nn.Module], images: Images, seed: int) -> nn.Module:
    """The network of that name or function for these images, initialised from ``seed``, on the CPU.

    A network with a method ``whiten`` gets the normalised images there, batch by batch: its first
    weights depend on them, so a network that must not know an image has to be made without it.

    Raises:
        ValueError: if there is none of that name; if a function does not make a new one with each
            call, or one that cannot read the images or lacks an output for a class.
    """
    with seeded(seed, torch.device("cpu")):
        if isinstance(model, str):
            network = build(model, images.num_classes, images.in_channels, images.image_size)
        else:
            network = own_network(model)
            check_network(network, images)
        if hasattr(network, "whiten"):
            network.whiten(images.normalise(some).cpu() for some in images.images.split(500))
        return network


def augmentation_of(images: Images, augment: bool | str) -> bool | str:
    """What ``augment`` does to these images, in a configuration."""
    if augment == "alternate":  # which does nothing where no image may be mirrored
        return augment if images.mirror else False
    return ("mirror" if images.mirror else "crop") if augment else False


def identity_of_network(model: str | Callable[[], nn.Module], fresh: nn.Module) -> dict:
    """What tells a network from others in a configuration: its name or function, and its layers.

    Of a function, the code of all layers and the first weights count as well, wherever they are
    from: a file, for example.
    """
    layers = hashlib.sha256(_layers(fresh).encode())
    if isinstance(model, str):
        return {"model": model, "layers": layers.hexdigest()}
    for name, tensor in fresh.state_dict().items():
        layers.update(f"{name}{tensor.dtype}{tensor.shape}".encode())
        layers.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    kinds = identity_of(sorted({type(layer) for layer in fresh.modules()}, key=str))
    return {"model": identity_of(model), "layers": [layers.hexdigest(), kinds]}


def _layers(network: nn.Module) -> str:
    """Kinds, settings and shapes of all layers. What torch prints of them changes by release."""
    found = [
        f"{name} {type(layer).__name__} {[getattr(layer, own, None) for own in SETTINGS]}"
        for name, layer in network.named_modules()
    ]
    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in network.state_dict().items()]
    return "\n".join(found + shapes)


def identity_of_own(model: str | Callable[[], nn.Module], images: Images) -> dict:
    """``identity_of_network`` of a function's network for these images; nothing of a name."""
    fresh = None if isinstance(model, str) else fresh_network(model, images, seed=0)
    return {} if fresh is None else identity_of_network(model, fresh)


def digest_of_images(images: Images) -> str:
    """SHA-256 of pixels, labels and normalisation."""
    total = hashlib.sha256(f"{images.images.shape}{images.mean}{images.std}".encode())
    total.update(images.images.cpu().contiguous().numpy().data)
    total.update(images.labels.cpu().contiguous().numpy().data)
    return total.hexdigest()
