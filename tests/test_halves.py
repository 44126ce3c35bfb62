"""Networks on random halves: who had which image, resumed, and what they memorise."""

import numpy as np
import pytest
import torch

from unlearning import Images, halves
from unlearning.halves import memorisation_on_halves, train_on_halves
from unlearning.labelling import corrupt
from unlearning.metrics import memorisation

QUICK = {"epochs": 1, "lr": 0.1, "n_jobs": 1}


def test_every_image_is_in_one_half_of_each_pair_and_a_stopped_run_continues(
    tiny, tmp_path, monkeypatch
):
    few = train_on_halves(tiny, networks=2, folder=tmp_path, **QUICK)
    begun, train = [], halves.train
    monkeypatch.setattr(halves, "train", lambda *a, **o: begun.append(o["seed"]) or train(*a, **o))
    more = train_on_halves(tiny, networks=4, folder=tmp_path, **QUICK)
    assert begun == [2, 3]
    for name in ("correct", "member"):
        assert more[name].shape == (4, 96) and more[name].dtype == bool
        np.testing.assert_array_equal(more[name][:2], few[name])
    member = more["member"]
    np.testing.assert_array_equal(member[::2], ~member[1::2])
    assert (member.sum(1) == 48).all() and (member[0] != member[2]).any()
    train_on_halves(tiny, networks=2, folder=tmp_path, **QUICK | {"lr": 0.2})
    assert begun == [2, 3, 0, 1]


def test_a_network_is_trained_on_its_half_alone(tiny, tmp_path, monkeypatch):
    read, train = [], halves.train

    def spy(network, batches, **options):
        read.append(torch.cat([labels for _, labels in batches]).sort().values)
        return train(network, batches, **options)

    monkeypatch.setattr(halves, "train", spy)
    found = train_on_halves(tiny, networks=2, folder=tmp_path, **QUICK)
    for labels, member in zip(read, found["member"], strict=True):
        assert torch.equal(labels, tiny.labels[member].sort().values)


def test_images_with_a_wrong_label_are_memorised_most(tmp_path):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    pixels = torch.randint(0, 160, (120, 1, 8, 8), generator=generator) + 80 * labels.view(
        -1, 1, 1, 1
    )
    images = Images(pixels.to(torch.uint8), labels, mean=0.4, std=0.2)
    noisy, wrong = corrupt(images, 0.1, seed=1)
    options = {"epochs": 30, "lr": 0.1, "batch_size": 20, "networks": 8, "n_jobs": 1}
    found = memorisation_on_halves(noisy, folder=tmp_path, **options)
    assert np.nanmin(found.scores) >= -1 and np.nanmax(found.scores) <= 1
    is_wrong = np.isin(np.arange(120), wrong)
    assert found.scores[is_wrong].mean() > 0.9
    assert np.abs(found.scores[~is_wrong]).mean() < 0.1
    top = found.scores.argsort()[-len(wrong) :]
    assert is_wrong[top].mean() >= 0.9
    arrays = train_on_halves(noisy, folder=tmp_path, **options)
    np.testing.assert_array_equal(memorisation(**arrays).errors, found.errors)


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        (96, {"networks": 1}, "networks must be a whole number, at least 2, not 1"),
        (1, {}, "one image has no halves"),
        (96, {"model": "nope"}, "there is no network 'nope'"),
    ],
)
def test_what_cannot_be_trained_is_refused(tiny, tmp_path, size, options, words):
    with pytest.raises(ValueError, match=words):
        train_on_halves(tiny.select(range(size)), folder=tmp_path, **QUICK | options)
