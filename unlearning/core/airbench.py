"""The network of airbench: a whitening layer, three blocks of two convolutions, and max-pooling."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = {
    "airbench-small": (16, 64, 64),
    "airbench": (32, 128, 128),
    "airbench-full": (64, 256, 256),
}
LEAST_SIZE = 16  # of an image: the last of three poolings then leaves one pixel


class Whitening(nn.Conv2d):
    """A convolution of 2 x 2 patches whose frozen filters whiten them; only its bias is trained.

    The filters are +-v_i / sqrt(lambda_i + eps), where v_i and lambda_i are the eigenvectors and
    eigenvalues of E[p p^T] over the patches p of the training images. Before ``whiten`` sees
    images, they are a random rotation, which would whiten white noise.

    Args:
        in_channels: channels of the images; the layer has 8 filters per channel.
        eps: keeps directions without variance from being amplified.
    """

    def __init__(self, in_channels: int, eps: float = 5e-4):
        self.eps = eps
        super().__init__(in_channels, 8 * in_channels, 2)
        self.weight.requires_grad_(False)

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.bias)
        half = torch.empty_like(self.weight[: len(self.weight) // 2]).flatten(1)
        self._set(nn.init.orthogonal_(half))

    def whiten(self, batches: Iterable[Tensor]) -> None:
        """Take the filters from all patches of some batches of images (B, C, H, W), normalised."""
        moments, count = 0, 0
        for images in batches:
            patches = F.unfold(images, 2).transpose(0, 1).flatten(1)  # (4 C, number of patches)
            moments = moments + (patches @ patches.T).double()
            count += patches.shape[1]
        values, vectors = torch.linalg.eigh(moments / count)  # ascending; columns
        filters = vectors / (values.clamp(min=0) + self.eps).sqrt()
        self._set(filters.flip(1).T)

    def _set(self, filters: Tensor) -> None:
        with torch.no_grad():
            self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))


class AirBench(nn.Module):
    """The network of airbench94, for images of any number of channels and any size from 16 on.

    Whitening, three blocks [convolution, max-pooling, BatchNorm, GELU, convolution, BatchNorm,
    GELU], the maximum over what is left of the image (3 x 3 pixels of 32 x 32), and a linear layer
    whose outputs are divided by 9. The scales of BatchNorm are frozen at 1: ``requires_grad`` says
    so, hence methods leave them as they are, and the Fisher information has its closed form.

    Its recipe, in ``load_or_train``: ``optimizer="nesterov", momentum=0.85, weight_decay=1.3e-3,
    schedule="triangular", augment="alternate"`` and ``lr=0.0015`` times the batch size. At half
    width, 4 epochs on 10,000 images of CIFAR-10 in batches of 256 take 50 s of one core and reach
    70 % and 67 % (seeds 0 and 1).

    Source: Jordan, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, 2024, arXiv 2404.00498,
    section 3 and appendix A: 1.97 million parameters at the published widths. Differences:
    BatchNorm's eps is PyTorch's 1e-5, not 1e-12, which amplifies rounding in a channel without
    variance; the whitening layer's bias is trained to the end, not for 3 epochs; and all training
    images are whitened by, not the first 5,000. The convolutions begin as PyTorch's do, not as
    the identity, which cost a hundredth of the test accuracy after 4 epochs on 5,000 images
    (``results/tuning/cifar10-airbench-ablation.csv``).

    Args:
        num_classes, in_channels: outputs and channels of the images.
        widths: channels of the three blocks.
    """

    def __init__(self, num_classes: int, in_channels: int, widths: tuple[int, int, int]):
        super().__init__()
        self.first = Whitening(in_channels)
        pairs = zip([8 * in_channels, *widths[:-1]], widths, strict=True)
        self.blocks = nn.Sequential(*(_block(inputs, outputs) for inputs, outputs in pairs))
        self.last = nn.Linear(widths[-1], num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.gelu(self.first(x)))
        return self.last(x.amax((-2, -1))) / 9

    def whiten(self, batches: Iterable[Tensor]) -> None:
        """Whiten by the statistics of training images, in batches (B, C, H, W), normalised."""
        self.first.whiten(batches)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        _convolution(inputs, outputs),
        nn.MaxPool2d(2),
        _norm(outputs),
        nn.GELU(),
        _convolution(outputs, outputs),
        _norm(outputs),
        nn.GELU(),
    )


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, momentum=0.4)  # 0.6 where momentum weighs the old statistics
    norm.weight.requires_grad_(False)
    return norm


def airbench(name: str, num_classes: int, in_channels: int, image_size: int) -> AirBench:
    """The network of that name in ``WIDTHS``.

    Raises:
        ValueError: if images are too small for its poolings.
    """
    if image_size < LEAST_SIZE:
        raise ValueError(
            f"{name} pools images four times, so they must be at least {LEAST_SIZE} pixels wide, "
            f"not {image_size}: choose mlp or cnn"
        )
    return AirBench(num_classes, in_channels, WIDTHS[name])
