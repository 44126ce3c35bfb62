"""core.passes: what is read when, and that epochs of it are epochs of minimise."""

import copy

import pytest
import torch
from torch import nn

from unlearning.core.batches import Rereadable, ZipCycle
from unlearning.core.loop import minimise
from unlearning.core.losses import classification_loss
from unlearning.core.passes import FromEpoch, Passes, Steps
from unlearning.core.randomness import generators_of


def test_sets_are_read_in_the_order_given_each_pass_in_its_own_order(tiny):
    sets = [tiny.of_classes([k]).batches(10, shuffle=True, seed=k) for k in (0, 1)]
    passes = Passes(sets, [1, 0, 1])
    assert len(passes) == 9
    for _ in range(2):
        read = list(passes)
        assert [int(place) for *_, place in read] == [1] * 3 + [0] * 3 + [1] * 3
        for place, (first, second) in {0: (3, None), 1: (0, 6)}.items():
            for epoch, start in ((0, first), (1, second)):
                if start is not None:
                    sets[place].set_epoch(epoch)
                    wanted = list(sets[place])
                    for (x, y, _), (images, labels) in zip(read[start:], wanted, strict=False):
                        assert torch.equal(x, images) and torch.equal(y, labels)


@pytest.mark.parametrize("kind", ["images", "loader"])
def test_passes_over_one_set_are_its_epochs_with_dropout_and_schedule(tiny, kind):
    batches = tiny.batches(16, shuffle=True, seed=1)
    if kind == "loader":
        data = torch.utils.data.TensorDataset(tiny.normalise(tiny.images), tiny.labels)
        batches = torch.utils.data.DataLoader(data, 16, shuffle=True)

    def network():
        torch.manual_seed(0)
        layers = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4)
        return nn.Sequential(nn.Flatten(), *layers)

    def loss(model, images, labels, _):
        return classification_loss(model, images, labels)

    wanted = minimise(network(), batches, classification_loss, epochs=3, lr=0.1, seed=4)
    found = minimise(network(), Passes([batches], [0, 0, 0]), loss, epochs=1, lr=0.1, seed=4)
    torch.testing.assert_close(found.state_dict(), wanted.state_dict(), rtol=0, atol=0)


def test_orders_go_on_where_another_call_stopped(tiny):
    batches = tiny.batches(16, shuffle=True, seed=1)
    later = FromEpoch(Rereadable(batches), 3)
    assert len(later) == 6
    for epoch in (0, 1):
        later.set_epoch(epoch)
        found = [labels for _, labels in later]
        batches.set_epoch(3 + epoch)
        assert all(torch.equal(a, b) for a, (_, b) in zip(found, batches, strict=True))


def test_a_generator_deep_in_several_wrappers_is_found(tiny):
    own = torch.Generator()
    data = torch.utils.data.TensorDataset(tiny.images, tiny.labels)
    sampler = torch.utils.data.RandomSampler(data, generator=own)
    loader = Rereadable(torch.utils.data.DataLoader(data, 16, sampler=sampler))
    pairs = Rereadable(ZipCycle(FromEpoch(loader, 1), FromEpoch(loader, 2)))
    assert generators_of(pairs) == [own]


def test_steps_of_whole_passes_are_epochs_and_a_part_of_a_pass_is_read_as_its_start(tiny):
    batches = tiny.batches(10, shuffle=True, seed=1)  # 10 in a pass, the last of 6
    torch.manual_seed(0)
    layers = nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 4)
    model, twin = (nn.Sequential(nn.Flatten(), *copy.deepcopy(layers)) for _ in range(2))
    steps = Steps(batches, 2)
    minimise(model, steps, classification_loss, epochs=1, lr=0.1, seed=4)
    minimise(twin, batches, classification_loss, epochs=2, lr=0.1, seed=4)
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=0, atol=0)
    assert steps.read == 2 * 96
    steps = Steps(batches, 1.34)
    read = list(steps)
    assert len(steps) == len(read) == 13 and steps.read == 96 + 30
    batches.set_epoch(1)
    for (images, _), (wanted, _) in zip(read[10:], batches, strict=False):
        assert torch.equal(images, wanted)
    assert len(Steps(batches, 0.01)) == 1
