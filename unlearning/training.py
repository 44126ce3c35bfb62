"""The one optimisation loop, and around it predictions, checkpoints, seeds and devices."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch._dynamo  # the first optimiser would import it: 2 s that belong to no measurement
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler
from tqdm import tqdm

from .data import Batches, Images
from .files import RESULTS, whole
from .models import build, device_of, normalisation_layers, seeded

CHECKPOINTS = RESULTS / "checkpoints"


class Diverged(ArithmeticError):
    """The loss or a weight is no longer finite."""


class Timed(NamedTuple):
    """A network and the seconds that it took to make, evaluation not among them."""

    model: nn.Module
    seconds: float


def timed(call: Callable, *arguments, **options) -> Timed:
    """What ``call(*arguments, **options)`` returns, a network usually, and its seconds."""
    start = time.perf_counter()
    result = call(*arguments, **options)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Timed(result, time.perf_counter() - start)


# ------------------------------------------------------------------------------------------------
# Seeds and devices


def set_seed(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, for code outside this package."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002, the global generator is the point
    torch.manual_seed(seed)


def pick_device() -> torch.device:
    """A CUDA GPU if there is one, else Apple's (MPS), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name() -> str:
    """The name of the device that ``pick_device`` picks, for people, and of a CPU its cores."""
    kind = pick_device().type
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {os.cpu_count()} cores" if kind == "cpu" else kind.upper()


# ------------------------------------------------------------------------------------------------
# Losses: mean over the batch, sum over the members of an ensemble


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, mean over the batch and sum over members.

    Args:
        logits: (B, K), or (N, B, K) of N members.
        labels: (B,), or (N, B).

    Raises:
        ValueError: labels that are no class. On a GPU CUDA itself asserts.
    """
    labels = labels.expand(logits.shape[:-1])
    try:  # no label is to be ignored, -100 as little as any other
        mean = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=-(2**62))
    except IndexError:
        check_labels(labels, logits.shape[-1])
        raise
    return mean if logits.ndim == 2 else mean * labels[..., 0].numel()


def classify(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The usual loss of a classifier, as ``minimise`` takes it."""
    return cross_entropy(model(images), labels)


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels that are no class, in one sentence."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels go from {low} to {high}, but the network has {num_classes} outputs: "
            f"labels must lie between 0 and {num_classes - 1}"
        )


def check_classes(classes: Iterable[int], num_classes: int) -> None:
    """Refuse a class that the network does not have, in one sentence."""
    outside = [label for label in classes if not 0 <= label < num_classes]
    if outside:
        raise ValueError(
            f"class {outside[0]} does not exist: the network has {num_classes} outputs"
        )


# ------------------------------------------------------------------------------------------------
# The loop


def minimise(
    model: nn.Module,
    batches: Iterable,
    loss: Callable[..., Tensor],
    *,
    epochs: int,
    lr: float,
    optimizer: str | torch.optim.Optimizer = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    schedule: str = "cosine",
    final_lr: float = 0.0,
    mixed_precision: bool | None = None,
    stop: Callable[[float], bool] | None = None,
    seed: int = 0,
    title: str = "training",
) -> nn.Module:
    """Minimise ``loss(model, *batch)`` over the parameters that require a gradient, in place.

    Methods call this on their own copy. A normalisation layer all of whose parameters are frozen
    keeps its running statistics too.

    Args:
        model: changed, returned in eval mode.
        batches: any iterable of tuples of tensors; one that has no length is read into a list.
        loss: ``loss(model, *batch) -> scalar``.
        epochs: passes over ``batches``.
        lr: learning rate; the peak of "onecycle", the first one of "cosine".
        optimizer: "sgd", "adam" or "adamw", or an optimiser of this model's parameters, whose own
            state, momentum and weight decay are then carried on.
        momentum: of SGD.
        weight_decay: L2 penalty of SGD and Adam, decoupled for AdamW.
        schedule: "cosine" (to ``final_lr`` times ``lr``), "onecycle" or "constant", step by step.
        mixed_precision: bfloat16 forward and backward. By default where it is faster: on a GPU that
            has it, and for deep networks on a CPU that has it.
        stop: called with each step's loss; the loop ends when it says True.
        seed: of dropout, and of the order of a DataLoader that has no generator of its own.
        title: beside the progress bar.

    Raises:
        Diverged: the loss, or at the end a weight, is not finite; names step and learning rate.
        ValueError: nothing to iterate, images that hold NaN, an option that does not exist.
    """
    if epochs < 0 or not lr >= 0:
        raise ValueError(f"epochs and lr must not be negative, but are {epochs} and {lr}")
    batches = sized(batches)
    device, convolves = device_of(model), has_convolutions(model)
    if convolves:
        model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, optimizer, lr, momentum, weight_decay)
    steps = max(1, epochs * len(batches))
    scheduler = make_schedule(optimizer, schedule, lr, final_lr, steps)
    if mixed_precision is None:
        mixed_precision = bfloat16_pays(model)
    bfloat16 = partial(torch.autocast, device.type, torch.bfloat16)
    precision = bfloat16 if mixed_precision else nullcontext
    watch, parameters = LossWatch(every=1 if stop else 50), list(model.parameters())
    bar = tqdm(total=steps, desc=title, leave=False, disable=None, mininterval=0.5)
    with seeded(seed, device), training_mode(model), at_full_speed(model), bar:
        for batch in in_epochs(batches, range(epochs)):
            with precision():
                value = loss(model, *on_device(batch, device, convolves))
            for parameter in parameters:  # a third of the time of zero_grad()
                parameter.grad = None
            value.backward()
            looked = watch.add(value.detach(), optimizer.param_groups[0]["lr"], batches)
            optimizer.step()
            if scheduler:
                scheduler.step()
            bar.update()
            if looked:
                bar.set_postfix(loss=f"{watch.last:.4f}", refresh=False)
            if stop and stop(watch.last):
                break
        watch.check(batches)
    for parameter in parameters:
        parameter.grad = None
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise Diverged(f"weights are not finite after {watch.steps} steps: lower lr ({lr:g})")
    return model


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
        classify,
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

    The network is read in eval mode and left in the mode it was in. An ensemble gives logits
    (N, S, K), and labels (N, S) where each member has its own batches.

    Raises:
        ValueError: no batches; logits or images that are not finite; labels out of range.
    """
    device, convolves = device_of(model), has_convolutions(model)
    logits, labels = [], []
    with torch.inference_mode(), eval_mode(model), at_full_speed(model):
        for images, targets in batches:
            (images,) = on_device([images], device, convolves)
            logits.append(model(images).float())
            labels.append(targets)
    if not logits:
        raise ValueError("the loader yielded no batches: there is nothing to predict")
    logits, labels = torch.cat(logits, dim=-2).cpu(), torch.cat(labels, dim=-1).cpu()
    if not logits.isfinite().all():
        raise ValueError("the network's outputs are not finite: its weights or the images hold NaN")
    check_labels(labels, logits.shape[-1])
    return logits, labels


# ------------------------------------------------------------------------------------------------
# Pieces of the loop


class LossWatch:
    """Sees that every loss is finite, looking every few steps where looking stalls the device."""

    def __init__(self, every: int):
        self.every, self.steps, self.last, self.pending = every, 0, math.nan, []

    def add(self, value: Tensor, lr: float, batches: Iterable) -> bool:
        """Note a loss; says whether it is among those looked at by now."""
        self.pending.append((value, lr))
        self.steps += 1
        if len(self.pending) >= self.every:
            self.check(batches)
        return not self.pending

    def check(self, batches: Iterable) -> None:
        if not self.pending:
            return
        values = torch.stack([value for value, _ in self.pending]).tolist()
        for place, (value, (_, lr)) in enumerate(zip(values, self.pending, strict=True)):
            if not math.isfinite(value):
                refuse_nan_images(batches)
                step = self.steps - len(values) + place + 1
                raise Diverged(
                    f"the loss is {value} at step {step} with learning rate {lr:g}: "
                    "lower lr, or take fewer epochs"
                )
        self.last, self.pending = values[-1], []


def refuse_nan_images(batches: Iterable) -> None:
    for number, batch in enumerate(batches):
        if any(part.is_floating_point() and not part.isfinite().all() for part in batch):
            raise ValueError(f"images of batch {number} hold NaN or infinite pixels")


def sized(batches: Iterable) -> Iterable:
    """Batches that have a length and can be read again: a generator becomes a list.

    Raises:
        ValueError: there are none.
    """
    try:
        count = len(batches)
    except TypeError:
        batches = list(batches)
        count = len(batches)
    if count == 0:
        raise ValueError("the loader yields no batches: is the data set empty, or drop_last set?")
    return batches


def in_epochs(batches: Iterable, epochs: Iterable[int]) -> Iterator:
    """The batches, over and over; ``set_epoch`` makes each epoch's order its own and repeatable."""
    for epoch in epochs:
        if hasattr(batches, "set_epoch"):
            batches.set_epoch(epoch)
        yield from batches


def on_device(batch: Iterable[Tensor], device: torch.device, channels_last: bool) -> list[Tensor]:
    parts = [part.to(device, non_blocking=True) for part in batch]
    if channels_last:
        last = torch.channels_last
        parts = [part.contiguous(memory_format=last) if part.ndim == 4 else part for part in parts]
    return parts


def has_convolutions(model: nn.Module) -> bool:
    """Whether channels_last suits the network: not the stacked weights of an ensemble."""
    return any(isinstance(m, nn.Conv2d) and m.weight.ndim == 4 for m in model.modules())


def is_wide(model: nn.Module) -> bool:
    """Whether a convolution has 128 channels or more, as in ResNet-18 and larger networks.

    Measured on two CPU cores: a step of ResNet-18 takes 1.6 times as long on one thread as on two.
    Steps of the MLP, the CNN and ResNet-20 lose much to a second thread when the machine is busy.
    """
    return any(isinstance(m, nn.Conv2d) and m.out_channels >= 128 for m in model.modules())


def is_deep(model: nn.Module) -> bool:
    """Whether the network has ten convolutions or more, as ResNet-20 and ResNet-18 have.

    Measured on a CPU with AVX512-BF16: a step of ResNet-18 takes 1.9 times as long in float32 as in
    bfloat16, one of ResNet-20 1.5 times, one of the CNN 1.15 times; the MLP's is no slower.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    return len(convolutions) >= 10 and convolutions[0].weight.dtype == torch.float32


def bfloat16_pays(model: nn.Module) -> bool:
    device = device_of(model)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has_it = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return device.type == "cpu" and is_deep(model) and has_it()


@contextmanager
def at_full_speed(model: nn.Module) -> Iterator[None]:
    """One CPU thread for a small network, all of them for a wide one; on a GPU the convolutions
    that cuDNN finds the fastest, unless it was told to be deterministic."""
    cudnn = torch.backends.cudnn
    threads, benchmark = torch.get_num_threads(), cudnn.benchmark
    torch.set_num_threads(threads if is_wide(model) else 1)
    cudnn.benchmark = benchmark or not cudnn.deterministic
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.benchmark = benchmark


def make_optimizer(model, optimizer, lr, momentum, weight_decay) -> torch.optim.Optimizer:
    if isinstance(optimizer, torch.optim.Optimizer):
        for group in optimizer.param_groups:
            group["lr"] = lr
        return optimizer
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("no parameter of the network requires a gradient: nothing can be trained")
    options = {"lr": lr, "weight_decay": weight_decay, "fused": device_of(model).type != "mps"}
    if optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=momentum, **options)
    if optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    if optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    raise ValueError(f"there is no optimizer {optimizer!r}: choose sgd, adam or adamw")


def make_schedule(optimizer, schedule, lr, final_lr, steps) -> lr_scheduler.LRScheduler | None:
    if schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=final_lr * lr)
    if schedule == "onecycle":
        return lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps + 1, cycle_momentum=False)
    if schedule == "constant":
        return None
    raise ValueError(f"there is no schedule {schedule!r}: choose cosine, onecycle or constant")


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Train mode, but for normalisations whose parameters are all frozen; eval mode afterwards."""
    model.train()
    for layer in normalisation_layers(model):
        own = list(layer.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            layer.eval()
    try:
        yield
    finally:
        model.eval()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for the block; every module's own mode is restored after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


# ------------------------------------------------------------------------------------------------
# Checkpoints


def load_or_train(
    images: Images,
    *,
    model: str,
    epochs: int,
    lr: float,
    batch_size: int = 64,
    optimizer: str = "sgd",
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    schedule: str = "cosine",
    augment: bool = False,
    seed: int = 0,
    device: torch.device | str | None = None,
    folder: Path | str = CHECKPOINTS,
) -> Timed:
    """The network trained on these very images in this very way: from its checkpoint if there is
    one, else trained now and kept.

    The configuration, all arguments and digests of images and layers, is in the file and in its
    name, so that another configuration is another file.

    Args:
        images: training set.
        model: name of a network, as ``build`` takes it.
        seed: of the initialisation, the order and the augmentation.
        device: where to train; by default the best there is.
        folder: of the checkpoints.

    Returns:
        (model in eval mode, seconds of its training when it was trained)
    """
    device = pick_device() if device is None else torch.device(device)
    network = fresh_network(model, images, seed).to(device)
    if has_convolutions(network):  # as training leaves it, so that a loaded one rounds the same way
        network.to(memory_format=torch.channels_last)
    configuration = {
        "images": digest_of(images),
        "num_classes": images.num_classes,
        "model": model,
        "layers": hashlib.sha256(str(network).encode()).hexdigest(),
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "augment": ("mirror" if images.mirror else "crop") if augment else False,
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(folder) / f"{model.replace('/', '-')}-{key}.pt"
    if path.exists():
        return Timed(network, load_checkpoint(path, network, configuration))
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


def fresh_network(model: str, images: Images, seed: int) -> nn.Module:
    """The network of that name for these images, initialised from ``seed``, on the CPU."""
    with seeded(seed, torch.device("cpu")):
        return build(model, images.num_classes, images.in_channels, images.image_size)


def save_checkpoint(
    path: Path | str, model: nn.Module, configuration: dict, *, seconds: float = 0.0
) -> None:
    """Write weights beside the configuration that they were trained with, whole or not at all."""
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    text = json.dumps(configuration, sort_keys=True)
    content = io.BytesIO()  # torch.save itself meets a full disk with a RuntimeError of its own
    torch.save({"configuration": text, "seconds": seconds, "state": state}, content)
    with whole(path) as beside:
        beside.write_bytes(content.getbuffer())


def load_checkpoint(path: Path | str, model: nn.Module, configuration: dict) -> float:
    """Read weights into ``model``, which is left in eval mode; returns the seconds of training.

    Raises:
        ValueError: the file is no checkpoint, or of another configuration.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, state = json.loads(content["configuration"]), content["state"]
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({type(error).__name__}): "
            "delete it, and it is trained again"
        ) from error
    wanted = json.loads(json.dumps(configuration))
    differing = sorted(k for k in wanted | found if wanted.get(k) != found.get(k))
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path} was trained with {key}={found.get(key)!r}, not {wanted.get(key)!r}: "
            "delete it to train again, or ask for the configuration that it has"
        )
    model.load_state_dict(state)
    model.eval()
    return content["seconds"]


def digest_of(images: Images) -> str:
    """SHA-256 of pixels, labels and normalisation."""
    total = hashlib.sha256(f"{images.images.shape}{images.mean}{images.std}".encode())
    total.update(images.images.cpu().contiguous().numpy().data)
    total.update(images.labels.cpu().contiguous().numpy().data)
    return total.hexdigest()
