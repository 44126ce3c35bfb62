"""SISA: what is left equals training without the forgotten images; what a request costs."""

import random

import pytest
import torch
from by_hand import assert_same, differ, weights
from torch import nn

from unlearning.methods import expected_share, train_shards
from unlearning.training import fresh_network, load_or_train, predict, train

RECIPE = {"model": "mlp", "epochs": 2, "lr": 0.05, "batch_size": 8}


def with_dropout():
    """It draws random numbers while it trains, and has statistics that move."""
    layers = nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 4)
    return nn.Sequential(nn.Flatten(), *layers)


def positions_in(sisa, shard, part=None):
    """Positions of the images of a shard, or of one of its slices."""
    at, of, slices = sisa.places.T
    return at[(of == shard) & (slices == part if part is not None else True)]


def assert_equal(found, wanted):
    for one, other in zip(found.shards, wanted.shards, strict=True):
        assert_same(one.network, other.network)
        torch.testing.assert_close(one.checkpoints, other.checkpoints, rtol=0, atol=0)
        assert one.reads == other.reads


@pytest.mark.parametrize("augment", [False, True])
def test_forgetting_is_training_without_the_images(tiny, augment):
    recipe = {**RECIPE, "model": with_dropout, "augment": augment, "shards": 3, "slices": 3}
    trained = train_shards(tiny, **recipe, seed=4)
    before = [weights(shard.network) for shard in trained.shards]
    gone = torch.cat([positions_in(trained, 0, 2)[:2], positions_in(trained, 2, 1)[:1]])
    found = trained.forget(gone)
    assert_equal(found, train_shards(tiny, **recipe, seed=4, without=gone))
    assert found.shards[1] is trained.shards[1]
    for shard in (0, 2):
        assert differ(found.shards[shard].network, trained.shards[shard].network)
        torch.testing.assert_close(weights(trained.shards[shard].network), before[shard])
    first = found.shards[0].checkpoints, trained.shards[0].checkpoints
    assert all(a is b for a, b in zip(first[0][:2], first[1][:2], strict=True))  # not made again
    kept = found.images.indices
    assert sorted(kept.tolist() + gone.tolist()) == list(range(len(tiny)))
    again = found.forget(positions_in(trained, 1, 0)[:1]).forget(gone)  # which are forgotten
    both = torch.cat([gone, positions_in(trained, 1, 0)[:1]])
    assert_equal(again, train_shards(tiny, **recipe, seed=4, without=both))
    assert again.images_read == 0


def test_nothing_depends_on_the_global_generators_nor_moves_them(tiny):
    state = torch.get_rng_state()
    first = train_shards(tiny, **RECIPE, shards=2, slices=2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    random.random()
    assert_equal(train_shards(tiny, **RECIPE, shards=2, slices=2, seed=1), first)
    other = train_shards(tiny, **RECIPE, shards=2, slices=2, seed=2)
    assert not torch.equal(other.places, first.places)


def test_a_slice_that_is_forgotten_as_a_whole_is_skipped(tiny):
    recipe = {**RECIPE, "shards": 2, "slices": 3}
    trained = train_shards(tiny, **recipe)
    gone = positions_in(trained, 1, 0)
    found = trained.forget(gone)
    assert_equal(found, train_shards(tiny, **recipe, without=gone))
    assert found.shards[1].reads[0] == 0


def test_forgetting_nothing_trains_nothing(tiny):
    trained = train_shards(tiny, **RECIPE, shards=2, slices=2)
    found = trained.forget([])
    assert found.images_read == 0 and trained.share([]) == 0
    assert all(a is b for a, b in zip(found.shards, trained.shards, strict=True))


def test_one_shard_of_one_slice_is_ordinary_training_on_what_is_left(tiny, tmp_path):
    recipe = {**RECIPE, "model": with_dropout}
    gone, left = list(range(0, 96, 7)), [i for i in range(96) if i % 7]
    trained = train_shards(tiny, **recipe, shards=1, slices=1, seed=3, weight_decay=0.01)
    assert_same(
        trained.shards[0].network,
        load_or_train(tiny, **recipe, seed=3, weight_decay=0.01, folder=tmp_path).result,
    )
    wanted, images = fresh_network(with_dropout, tiny, 3), tiny.select(left)
    batches = images.batches(8, shuffle=True, seed=3)
    train(wanted, batches, epochs=2, lr=0.05, weight_decay=0.01, seed=3)
    found = trained.forget(gone)
    assert_same(found.shards[0].network, wanted)
    assert found.images_read == 2 * len(left)
    sure = predict(wanted, images.sequential_batches())[0].log_softmax(-1)
    torch.testing.assert_close(found.predict(images)[0], sure)


def test_work_is_that_of_the_epochs_to_the_nearest_step(tiny):
    sisa = train_shards(tiny, **{**RECIPE, "epochs": 4}, shards=4, slices=3)  # 2 passes a stage
    assert [shard.reads for shard in sisa.shards] == [(16, 32, 48)] * 4
    assert sisa.images_read == 4 * 96
    sisa = train_shards(tiny, **{**RECIPE, "epochs": 2}, shards=4, slices=2)  # 4/3 passes
    assert [shard.reads for shard in sisa.shards] == [(20, 32)] * 4  # 3 of 8, 4 and 8; 4 of 8


@pytest.mark.parametrize("slices", [1, 2, 3, 4])
def test_one_image_costs_the_share_that_the_formula_says(tiny, slices):
    """Over all places where it can be, not over a sample of them."""
    recipe = {**RECIPE, "epochs": slices + 1, "batch_size": 24 // slices}
    sisa = train_shards(tiny, **recipe, shards=4, slices=slices)
    mean = sum(sisa.share([place]) for place in range(96)) / 96
    assert mean == pytest.approx((2 * slices + 1) / (3 * slices) / 4, abs=1e-12)
    assert expected_share(1, 4, slices) == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize("count", [2, 5, 12])
def test_several_images_touch_the_shards_that_the_formula_says(tiny, count):
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(96, (4000, count), generator=generator)
    for slices in (1, 3):
        recipe = {**RECIPE, "epochs": slices + 1, "batch_size": 24 // slices}
        sisa = train_shards(tiny, **recipe, shards=4, slices=slices)
        shares = torch.tensor([sisa.share(draw) for draw in draws[: 4000 // slices]])
        error = 4 * shares.std() / len(shares) ** 0.5 + 1e-9
        assert abs(shares.mean() - expected_share(count, 4, slices)) < error
    touched = torch.tensor([len({int(sisa.places[at, 1]) for at in draw}) for draw in draws])
    wanted = 4 * (1 - (1 - 1 / 4) ** count)
    assert float(touched.double().mean()) == pytest.approx(wanted, abs=0.05)
    assert 4 * expected_share(count, 4, 1) == pytest.approx(wanted)


def test_a_request_reads_what_its_share_announces_but_for_the_images_gone(tiny):
    sisa = train_shards(tiny, **RECIPE, shards=4, slices=2)
    place = positions_in(sisa, 3, 1)[0]
    found = sisa.forget([place])
    assert sisa.share([place]) == sisa.shards[3].reads[1] / sisa.images_read
    assert found.images_read == found.shards[3].reads[1] == sisa.shards[3].reads[1] - 1


def test_answers_are_the_mean_softmax_or_a_vote_whose_ties_go_to_the_mean(tiny):
    sisa = train_shards(tiny, **RECIPE, shards=3, slices=1)
    outputs = [predict(shard.network, tiny.sequential_batches())[0] for shard in sisa.shards]
    scores, labels = sisa.predict(tiny)
    mean = torch.stack(outputs).softmax(-1).mean(0)
    torch.testing.assert_close(scores.softmax(-1), mean)
    assert torch.equal(labels, tiny.labels)
    votes, _ = sisa.predict(tiny.batches(7), vote=True)
    for answers, probabilities, found in zip(
        torch.stack(outputs).argmax(-1).T.tolist(), mean, votes.argmax(-1).tolist(), strict=True
    ):
        most = max(map(answers.count, answers))
        best = [k for k in set(answers) if answers.count(k) == most]
        assert found == max(best, key=lambda k: float(probabilities[k]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shards": 97, "slices": 1}, "96 images are too few for 97 shards of 1 slices"),
        ({"shards": 10, "slices": 10}, "96 images are too few for 10 shards of 10 slices"),
        ({"shards": 0}, "shards must be a whole number, at least 1, not 0"),
        ({"slices": 1.5}, "slices must be a whole number, at least 1, not 1.5"),
        ({"epochs": 0}, "epochs must be one number in"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"without": [96]}, "there is no image 96: positions go from 0 to 95"),
        ({"without": range(96)}, "all shards would be left without images"),
        ({"model": "lenet"}, "there is no network 'lenet'"),
    ],
)
def test_what_cannot_be_trained_is_refused(tiny, options, words):
    with pytest.raises(ValueError, match=words):
        train_shards(tiny, **{**RECIPE, **options})


def test_what_cannot_be_forgotten_is_refused(tiny):
    sisa = train_shards(tiny, **RECIPE, shards=3, slices=1)
    for method in (sisa.forget, sisa.share):
        with pytest.raises(ValueError, match="there is no image -1"):
            method([-1])
        with pytest.raises(ValueError, match="positions must be whole numbers"):
            method(torch.ones(96, dtype=torch.bool))
        with pytest.raises(ValueError, match="all shards would be left without images"):
            method(range(96))
        with pytest.raises(ValueError, match="shard 1 would be left without images"):
            method(positions_in(sisa, 1))
