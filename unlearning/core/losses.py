"""Losses, each a mean over the batch; and a loss that says what it fails on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import (
    BATCH,
    check_labels,
    check_logits,
    check_pair,
    classes_to_forget,
    kind_of,
    warn_of_probabilities,
    whole_labels,
)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy -log p_y, mean over the batch.

    Args:
        logits: (B, K).
        labels: (B,).

    Raises:
        ValueError: if there is not one whole number per row, or a label is not a class. On a GPU,
            CUDA itself asserts the latter.
    """
    labels = whole_labels(labels, len(logits))
    try:  # no label may be ignored, not even -100
        return F.cross_entropy(logits, labels, ignore_index=-(2**62))
    except IndexError:
        check_labels(labels, logits.shape[-1])
        raise


def classification_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The usual loss of a classifier, in the form that ``minimise`` takes."""
    return cross_entropy(model(images), labels)


def kl_divergence(target: Tensor, logits: Tensor) -> Tensor:
    """KL(target || softmax(logits)), mean over the batch, in float32.

    Args:
        target: probabilities, (B, K) or (K,).
        logits: (B, K).
    """
    log_q = (
        check_logits(logits).float().log_softmax(-1)
    )  # bfloat16 cannot tell log K from its neighbours
    return (torch.xlogy(target, target) - target * log_q).sum(-1).mean()


def mean_squared_error(target: Tensor, logits: Tensor) -> Tensor:
    """Mean over the batch and the classes of (logit - target)^2, in float32.

    Args:
        target: (B, K) or (K,).
        logits: (B, K).
    """
    return (check_logits(logits).float() - target).square().mean(-1).mean()


def uniform(num_classes: int, *, without: Sequence[int] = ()) -> Tensor:
    """The uniform distribution over the classes, (K,), with probability 0 for those in ``without``.

    Raises:
        ValueError: if ``without`` names a class that does not exist, or all of them.
    """
    probabilities = torch.ones(num_classes)
    probabilities[classes_to_forget(without, num_classes)] = 0
    return probabilities / probabilities.sum()


class ExplainedLoss:
    """A loss that, where it fails on what a loader or a network gave, says so in one sentence."""

    def __init__(self, loss: Callable[..., Tensor], title: str):
        self.loss, self.title, self.outputs, self.is_first = loss, title, [], True

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Note what the network returns, in this block."""
        hook = model.register_forward_hook(lambda _, __, output: self.outputs.append(output))
        try:
            yield
        finally:
            hook.remove()

    def __call__(self, model: nn.Module, parts: list[Tensor]) -> Tensor:
        try:
            value = self.loss(model, *parts)
            if self.is_first:
                self._warn()
            return value
        except Exception as error:
            self._explain(error, parts)
            raise
        finally:
            self.outputs.clear()
            self.is_first = False

    def _warn(self) -> None:
        for output in self.outputs[:1]:
            if isinstance(output, Tensor) and output.ndim == 2:
                warn_of_probabilities(output)

    def _explain(self, error: Exception, parts: list[Tensor]) -> None:
        names = list(signature(self.loss).parameters)[1:]
        if names == ["images", "labels"] and len(parts) != 2:
            raise ValueError(f"{BATCH}, not {kind_of(parts)}") from error
        for output in self.outputs:
            check_logits(output)
        if "more than 1 value per channel" in str(error):
            raise ValueError(
                f"{self.title}: a batch of the loader holds {len(parts[0])} image, from which "
                "BatchNorm cannot take a variance: set drop_last=True, or another batch size"
            ) from error
        if len(parts) > 1:
            check_pair(parts[:2])
