"""core.checkpoints: whole, of one configuration, and never code."""

import io
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unlearning.core.checkpoints import load_checkpoint, save_checkpoint


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 40), nn.BatchNorm1d(40), nn.Linear(40, 2))


def same(model, other):
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_checkpoint_keeps_configuration_seconds_and_weights(tmp_path):
    path, trained = tmp_path / "network.pt", network(0)
    trained(torch.rand(8, 3))  # the statistics of BatchNorm move
    configuration = {"lr": 0.1, "layers": (1, 2), "nothing": None}
    save_checkpoint(path, trained, configuration, seconds=12.5)
    model = network(1)
    assert load_checkpoint(path, model, configuration) == 12.5
    assert same(model, trained) and not model.training


def test_another_configuration_is_refused_and_leaves_the_network_alone(tmp_path):
    save_checkpoint(tmp_path / "network.pt", network(0), {"lr": 0.1, "seed": 0})
    model = network(1)
    for other, words in [
        ({"seed": 3}, "was trained with seed=0, not 3: delete it"),
        ({"epochs": 1}, "epochs=None, not 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            load_checkpoint(tmp_path / "network.pt", model, {"lr": 0.1, "seed": 0, **other})
    assert same(model, network(1))


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


GARBAGE = {
    "half a checkpoint": lambda good, path: good[: len(good) // 2],
    "pickle": lambda good, path: pickle.dumps(Malicious(path)),
    "pickle within": lambda good, path: saved(
        {"configuration": "{}", "seconds": 0.0, "state": Malicious(path)}
    ),
    "tensor alone": lambda good, path: saved(torch.zeros(3)),
    "nothing": lambda good, path: b"",
}


@pytest.mark.parametrize("spoil", GARBAGE.values(), ids=GARBAGE.keys())
def test_file_that_is_not_a_checkpoint_is_refused_and_its_code_never_runs(tmp_path, spoil):
    path = tmp_path / "network.pt"
    save_checkpoint(path, network(0), {})
    path.write_bytes(spoil(path.read_bytes(), tmp_path / "owned"))
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint .*: delete it"):
        load_checkpoint(path, network(1), {})
    assert not (tmp_path / "owned").exists()
    pickle.loads(GARBAGE["pickle"](b"", tmp_path / "owned"))  # unpickled, it would run
    assert (tmp_path / "owned").exists()


def spoilt(**changes):
    """A checkpoint without a digest, as older versions wrote them, with other parts."""
    state = dict(network(0).state_dict())
    return saved({"configuration": "{}", "seconds": 1.0, "state": state} | changes)


def state_with(**changes):
    return dict(network(0).state_dict()) | {k.replace("_", "."): t for k, t in changes.items()}


WRONG = {
    "not finite": {"state": state_with(**{"0_bias": torch.full((40,), torch.nan)})},
    "float16": {"state": state_with(**{"0_bias": torch.zeros(40).half()})},
    "another shape": {"state": state_with(**{"0_bias": torch.zeros(41)})},
    "a name more": {"state": state_with(more=torch.zeros(1))},
    "no tensors": {"state": {"0.bias": 3}},
    "no state": {"state": None},
    "seconds a text": {"seconds": "12"},
    "seconds not finite": {"seconds": float("nan")},
    "no configuration": {"configuration": "7"},
    "another digest": {"digest": "0" * 64},
    "too large": {"more": torch.zeros(300_000)},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG.keys())
def test_readable_file_with_other_content_is_refused_and_leaves_the_network_alone(
    tmp_path, changes
):
    path, model = tmp_path / "network.pt", network(1)
    path.write_bytes(spoilt(**changes))
    with pytest.raises(ValueError, match=r"cannot be read as a checkpoint .*: delete it"):
        load_checkpoint(path, model, {})
    assert same(model, network(1))


def test_checkpoint_of_an_older_version_is_read(tmp_path):
    (tmp_path / "network.pt").write_bytes(spoilt())
    model = network(1)
    assert load_checkpoint(tmp_path / "network.pt", model, {}) == 1 and same(model, network(0))


@given(st.data())
def test_flipped_bit_is_refused_or_changes_nothing(tmp_path_factory, data):
    path, model = tmp_path_factory.mktemp("flipped") / "network.pt", network(1)
    save_checkpoint(path, network(0), {}, seconds=2.0)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, 8 * len(content) - 1))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    try:
        assert load_checkpoint(path, model, {}) == 2.0
    except ValueError as error:
        assert "delete it, and it is trained again" in str(error) and same(model, network(1))
    else:  # the bit belongs to nothing that is read, a date for example
        assert same(model, network(0))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    broken = network(0)
    broken[1].running_mean[3] = torch.nan
    with pytest.raises(ValueError, match=r"1\.running_mean is not finite"):
        save_checkpoint(tmp_path / "network.pt", broken, {})
    assert list(tmp_path.iterdir()) == []


def test_file_that_unpacks_to_far_more_than_the_network_is_refused_unread(tmp_path):
    path = tmp_path / "network.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(ValueError, match="takes 50,000,000 bytes unpacked, more than the"):
        load_checkpoint(path, network(0), {})


def test_what_may_not_be_opened_is_not_to_be_deleted(tmp_path):
    with pytest.raises(OSError, match="cannot be opened"):
        load_checkpoint(tmp_path, network(0), {})


def test_full_disk_is_one_clear_sentence_and_keeps_the_old_checkpoint(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "network.pt"
    save_checkpoint(path, network(0), {"seed": 0})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"network\.pt could not be written \("):
            save_checkpoint(path, network(1), {"seed": 0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    model = network(2)
    load_checkpoint(path, model, {"seed": 0})
    assert same(model, network(0)) and list(tmp_path.iterdir()) == [path]
