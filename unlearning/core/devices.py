"""Which device, which precision, how many threads; and seeds for a block of code."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


def pick_device() -> torch.device:
    """A CUDA GPU if there is one, else Apple's (MPS), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_name() -> str:
    """Name of the device that ``pick_device`` picks; for a CPU, its number of cores."""
    kind = pick_device().type
    if kind == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {os.cpu_count()} cores" if kind == "cpu" else kind.upper()


def machine() -> dict[str, str]:
    """What a run was measured on: the device and the version of torch."""
    return {"device": device_name(), "torch": torch.__version__.partition("+")[0]}


def device_of(model: nn.Module) -> torch.device:
    """Where the network is; the CPU for one that holds no tensor."""
    return next(chain(model.parameters(), model.buffers()), torch.empty(0)).device


@contextmanager
def with_gradients() -> Iterator[None]:
    """Record gradients in a block, even where the caller switched them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """Floating-point type of the network's parameters; None if it has none."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), None)


def on_device(
    batch: Iterable[Tensor],
    device: torch.device,
    channels_last: bool,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """The tensors of a batch, moved to the device; images in channels_last if that is asked for.

    Nothing is trained through them. Floats become ``dtype``, if it is given.
    """
    parts = [
        part.detach().to(device, dtype if part.is_floating_point() else None, non_blocking=True)
        for part in batch
    ]
    if channels_last:
        last = torch.channels_last
        parts = [part.contiguous(memory_format=last) if part.ndim == 4 else part for part in parts]
    return parts


def _convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def use_channels_last(model: nn.Module) -> bool:
    """Whether the network should be in channels_last: it has two-dimensional convolutions."""
    return bool(_convolutions(model))


def _is_wide(model: nn.Module) -> bool:
    """Whether a convolution has 128 channels or more, as in ResNet-18 and larger networks.

    Measured on two CPU cores: a step of ResNet-18 takes 1.6 times as long on one thread as on two.
    Steps of the MLP, the CNN and ResNet-20 lose much to a second thread when the machine is busy.
    """
    return any(layer.out_channels >= 128 for layer in _convolutions(model))


def _is_large(model: nn.Module) -> bool:
    """Whether the network has seven convolutions or more, as ResNets and those of airbench have, or
    wide ones: bfloat16 trains an airbench 1.5 to 1.6 times as fast in batches of 128.

    Others spend too little of their time in products to gain from bfloat16.
    """
    layers = _convolutions(model)
    many = len(layers) >= 7 or _is_wide(model)
    return many and layers[0].weight.dtype == torch.float32


def use_bfloat16(model: nn.Module) -> bool:
    """Whether to train in bfloat16: on a GPU that has it, and for large networks on a fast CPU."""
    device = device_of(model)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _is_large(model) and _bfloat16_is_faster()


@cache
def _bfloat16_is_faster() -> bool:
    """Whether this CPU convolves clearly faster in bfloat16; tried once, in some milliseconds.

    The processor's flag alone does not tell: with the flag, one release of torch trained 1.5 times
    as fast in bfloat16 as in float32, and another 0.7 times.
    """
    if not getattr(torch.cpu, "_is_avx512_bf16_supported", bool)():
        return False
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(32, 64, 16, 16, generator=generator)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3, generator=generator)

    def seconds(dtype: torch.dtype) -> float:
        arrays, best = (images.to(dtype), weight.to(dtype)), float("inf")
        for _ in range(5):
            start = time.perf_counter()
            conv2d(*arrays, padding=1)
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(torch.float32) > 1.2 * seconds(torch.bfloat16)


@contextmanager
def performance_settings(model: nn.Module) -> Iterator[None]:
    """Run a block with the threads and cuDNN settings that are fastest for this network.

    A small network gets one CPU thread, a wide one all of them. On a GPU, cuDNN looks for the
    fastest convolutions, unless it was told to be deterministic.
    """
    cudnn = torch.backends.cudnn
    threads, benchmark = torch.get_num_threads(), cudnn.benchmark
    torch.set_num_threads(threads if _is_wide(model) else 1)
    cudnn.benchmark = benchmark or not cudnn.deterministic
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.benchmark = benchmark


@contextmanager
def in_channels_last(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The network in channels_last for a block; its tensors have the strides they had after it.

    What an optimizer keeps for each parameter goes along: a fused one takes both for equally laid
    out, and would mix up the entries.
    """
    tensors = [*model.parameters(), *model.buffers()]
    strides = [tensor.stride() for tensor in tensors]
    model.to(memory_format=torch.channels_last)
    _lay_out_state(optimizer)
    try:
        yield
    finally:
        for tensor, stride in zip(tensors, strides, strict=True):
            tensor.data = _laid_out(tensor.data, stride)
        _lay_out_state(optimizer)


def _laid_out(tensor: Tensor, stride: Iterable[int]) -> Tensor:
    if tensor.stride() == tuple(stride):
        return tensor
    return torch.empty_strided(
        tensor.shape, stride, dtype=tensor.dtype, device=tensor.device
    ).copy_(tensor)


def _lay_out_state(optimizer: torch.optim.Optimizer | None) -> None:
    for parameter, state in optimizer.state.items() if optimizer else ():
        for name, kept in state.items():
            if isinstance(kept, Tensor) and kept.shape == parameter.shape:
                state[name] = _laid_out(kept, parameter.stride())
