"""Augmentation of whole batches, drawn image by image."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .randomness import generator_from


def check_augment(augment: bool | str) -> bool | str:
    """Return ``augment``, or raise a ValueError if there is no such augmentation."""
    if augment not in (False, True, "alternate"):
        raise ValueError(f'augment must be False, True or "alternate", not {augment!r}')
    return augment


def augmentation(
    augment: bool | str, images, seed: int, epoch: int, generator: torch.Generator
) -> Callable[[Tensor, Tensor], Tensor]:
    """What becomes, in this epoch, of a batch's pixels, given their positions in ``images``."""
    if augment == "alternate" and images.mirror:
        flipped = turns(len(images), seed, epoch).to(images.device)
        return lambda pixels, positions: _flip(pixels, flipped[positions])
    if augment and augment != "alternate":
        return lambda pixels, _: flip_and_crop(pixels, generator, mirror=images.mirror)
    return lambda pixels, _: pixels


def turns(count: int, seed: int, epoch: int) -> Tensor:
    """Which images are mirrored in this epoch, (count,): a random half, and next the other half.

    Source: Jordan, arXiv 2404.00498, section 3.6.
    """
    coins = torch.rand(count, generator=generator_from(seed * 1_000_003 - 1)) < 0.5
    return coins ^ bool(epoch % 2)


def flip_and_crop(
    images: Tensor, generator: torch.Generator, *, mirror: bool, padding: int = 4
) -> Tensor:
    """Crop each padded image at its own random place and mirror half of them.

    A crop is one ``index_select`` of whole rows from a view in which every pixel starts a row. It
    is 40 times as fast as advanced indexing (512 x 3 x 32 x 32: 0.18 ms against 7.5).

    Args:
        images: uint8, (B, C, H, W), on any device.
        generator: on the CPU; draws two offsets and one coin per image.
        mirror: whether half of the images are mirrored.
        padding: zeros on each side before the crop.
    """
    count, channels, height, width = images.shape
    offsets = torch.randint(2 * padding + 1, (2, count, 1, 1), generator=generator)
    coins = torch.rand(count, generator=generator)
    if mirror:
        images = _flip(images, coins < 0.5)
    padded = F.pad(images, (padding,) * 4)
    tall, wide = padded.shape[-2:]
    down, right = offsets.to(images.device)
    planes = torch.arange(count * channels, device=images.device).view(count, channels, 1)
    rows = planes * tall + down + torch.arange(height, device=images.device)  # (B, C, H)
    first_pixels = (rows * wide + right).flatten()
    every_row = padded.flatten().as_strided((padded.numel() - width + 1, width), (1, 1))
    return every_row.index_select(0, first_pixels).view(count, channels, height, width)


def _flip(images: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), images.flip(-1), images)
