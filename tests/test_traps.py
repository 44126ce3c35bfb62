"""Slips of released code: what each changes, where it can be known."""

import pytest
from torch import nn

from unlearning import predict, train, traps
from unlearning.methods import scrub
from unlearning.metrics import accuracy
from unlearning.splitting import forget_classes


@pytest.fixture(scope="module")
def known(tiny):
    """A network that knows the set, and batches to retain and to forget of equal size."""
    layers = nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)
    model = train(nn.Sequential(nn.Flatten(), *layers), tiny.batches(12), epochs=20, lr=0.1)
    split = forget_classes(tiny, 3)
    return model, split.retain.batches(12), split.forget.batches(12)


def test_labels_drawn_once_are_learned_and_others_are_not(known):
    found = traps.labels_drawn_once(*known, epochs=(1, 60))["numbers"]
    assert found.loc[60, "drawn once"] > 0.7 > 0.5 > found.loc[60, "drawn in every epoch"]


def test_weight_decay_alone_moves_what_only_gradients_mask(known):
    still = traps.gradients_masked(*known, epochs=(1, 3), weight_decay=0)["numbers"]
    moving = traps.gradients_masked(*known, epochs=(1, 3), weight_decay=1e-2)["numbers"]
    assert (still == 0).all(axis=None) and (moving["weights masked"] == 0).all()
    assert 0 < moving.loc[1, "gradients masked"] < moving.loc[3, "gradients masked"]


def test_each_count_is_that_many_epochs_of_scrub_that_maximise(known):
    model, retain, forget = known
    found = traps.epochs_counted_from_zero(*known, epochs=2, lr=0.01)["numbers"]
    assert list(found.index) == [0, 1, 2]
    for count in found.index:
        network = scrub(model, retain, forget, max_epochs=count, epochs=2, lr=0.01)
        for name, batches in (("retain", retain), ("forget", forget)):
            assert found.loc[count, name] == 100 * accuracy(*predict(network, batches))


def test_no_ratio_is_above_the_inverse_of_the_share(known):
    found = traps.ratio_out_of_reach(*known, alphas=(0.5, 1, 2, 3.99, 4.01, 10))["numbers"]
    (shares,) = (found[name] for name in found)  # two of eight batches are to be forgotten
    assert list(found) == ["share 25.0%"] and shares.is_monotonic_decreasing
    assert shares[1] > 0 and shares[4.01] == shares[10] == 0


def test_a_multiplied_factor_has_its_peak_half_way_at_nearly_ten_times():
    found = traps.factor_multiplied()["numbers"]
    assert found["set"].tolist() == pytest.approx([1 - e / 10 for e in range(10)])
    assert found["multiplied"].max() == pytest.approx(2 * 1.8 * 1.6 * 1.4 * 1.2)
    assert found["multiplied"].idxmax() in (5, 6)
