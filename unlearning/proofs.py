"""What does forgetting with a proof cost, and what does it not hide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .core.checks import check_positions
from .core.devices import machine
from .core.heads import Head, fit_head
from .data import Images
from .methods import expected_share, newton_removal, removals, removed_sum, train_shards
from .metrics import accuracy
from .probing.features import features_of
from .training import timed


def sisa_costs(
    images: Images, test: Images, order: Tensor, sizes: Sequence[int], **options
) -> dict[str, float | str]:
    """A row for ``report.table``: how well an ensemble predicts, and what requests cost it.

    "forget <size>" is the share of the training that a request of so many images repeats, as the
    mean over up to 100 requests that have no image in common.

    Args:
        images, test: what it trains on, and what it is tested on.
        order: all positions, in the order in which requests take them.
        sizes: numbers of images in a request; one of the middle number is made, and timed.
        options: of ``train_shards``, "shards" and "seed" among them.
    """
    sisa, seconds = timed(train_shards, images, **options)
    row = {"method": f"{options['shards']} shards", "scenario": "SISA", "seed": options["seed"]}
    row |= {"shards": options["shards"], "seconds": seconds}
    row["test_accuracy"] = accuracy(*sisa.predict(test))
    row["request_seconds"] = timed(sisa.forget, order[: sizes[len(sizes) // 2]]).seconds
    for size in sizes:
        shares = [sisa.share(request) for request in order.split(size)[:100]]
        row[f"forget {size}"] = sum(shares) / len(shares)
    return row | machine()


def expected_costs(shards: Sequence[int], sizes: Sequence[int], slices: int) -> pd.DataFrame:
    """``expected_share`` for each number of shards and, in columns, of images in a request."""
    columns = {f"forget {n}": [expected_share(n, s, slices) for s in shards] for n in sizes}
    return pd.DataFrame(columns, pd.Index(shards, name="shards"))


def unit_features(model: nn.Module, images: Images) -> tuple[Tensor, Tensor]:
    """``features_of`` the images, each row divided by its own norm, and their labels."""
    features, labels = features_of(model, images.sequential_batches())
    return F.normalize(features), labels


def certificate_costs(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    order: Tensor | Iterable[int],
    *,
    sigma: float,
    seed: int,
    epsilon: float = 1.0,
    delta: float = 1e-4,
    **options,
) -> tuple[dict[str, float | str], pd.DataFrame]:
    """Train a certified logistic head, and remove examples up to the first that is not covered.

    Args:
        train, test: features and labels.
        order: positions of the examples to remove, one by one.
        sigma, seed: standard deviation of the noise, and its random seed.
        epsilon, delta: the budget.
        options: more of ``fit_head``.

    Returns:
        (a row for ``report.table`` with the number of removals that the certificate covers, and the
        test accuracy before them; one row per removal: the norm of the "gradient" that is left
        over, its "bound", and the "budget", which is the largest bound that is covered)
    """
    head = fit_head(*train, sigma=sigma, seed=seed, **options)
    found, covered = [], 0
    for after, *left in removals(head, *train, order):
        gradient, bound = float(after.gradient(*left).norm()), float(after.bound.norm())
        found.append([gradient, bound, bound * epsilon / after.epsilon(delta)])
        if after.epsilon(delta) > epsilon:
            break
        covered += 1
    row = {"method": f"noise {sigma:g}", "scenario": "certificate", "seed": seed, "sigma": sigma}
    row |= {"removals": covered, "test_accuracy": accuracy(head.scores(test[0]), test[1])}
    index = pd.RangeIndex(1, len(found) + 1, name="removals")
    return row | machine(), pd.DataFrame(found, index, ["gradient", "bound", "budget"])


def reconstruct(
    head: Head, features: Tensor, labels: Tensor, position: int, known: Tensor | None = None
) -> tuple[Tensor, float]:
    """Remove one example, and find it again in the difference of the two heads.

    Args:
        head, features, labels: as ``newton_removal``; features that are not negative, as pixels.
        position: of the example.
        known: features from which the Hessian is estimated; by default those that are retained.

    Returns:
        (the example up to its length, with 1 as its largest entry; its cosine to the true one)
    """
    after = newton_removal(head, features, labels, [position])
    left = torch.arange(len(features)) != position
    rows = removed_sum(head, after, features[left] if known is None else known)
    found = rows[rows.norm(dim=1).argmax()]  # each class gives a multiple of it, or next to nothing
    found = found * found.sum().sign() / found.abs().max()
    return found, float(F.cosine_similarity(found, features[position].to(found), 0))


def reconstructions(
    images: Images, others: Images, positions: Tensor | Iterable[int]
) -> tuple[pd.DataFrame, Images]:
    """Remove single images from a ridge head on pixels, and find them again.

    The Hessian is the true one, or estimated from ``others``, as somebody who has no training image
    can do.

    Returns:
        (one row per picture: "position", "hessian" and "cosine" to the removed image; the pictures:
        the removed images, then those found in either way)
    """
    pixels, public = (part.images.cpu().flatten(1).double() / 255 for part in (images, others))
    labels, places = images.labels.cpu(), check_positions(positions, len(images)).tolist()
    head, rows, found = fit_head(pixels, labels, kind="ridge"), [], []
    for place in places:
        rows.append(["removed", place, 1.0])
        found.append(pixels[place])
    for name, known in {"exact": None, "public": public}.items():
        for place in places:
            picture, cosine = reconstruct(head, pixels, labels, place, known)
            rows.append([name, place, cosine])
            found.append(picture)
    pictures = (255 * torch.stack(found).clamp(0, 1)).round().to(torch.uint8)
    table = pd.DataFrame(rows, columns=["hessian", "position", "cosine"]).assign(**machine())
    return table, Images(pictures.view(-1, *images.images.shape[1:]), labels[places].repeat(3))
