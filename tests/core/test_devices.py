"""core.devices: where, how precisely and on how many threads a network runs; seeds for a block."""

import random
import time

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import build, train
from unlearning.core import devices
from unlearning.core.devices import (
    machine,
    on_device,
    performance_settings,
    pick_device,
    use_bfloat16,
    use_channels_last,
)
from unlearning.core.randomness import seeded


def test_device_is_cuda_else_mps_else_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 64)
    found = []
    for cuda, mps in ((True, True), (False, True), (False, False)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        found.append((pick_device().type, machine()["device"]))
    assert found == [("cuda", "H100"), ("mps", "MPS"), ("cpu", "CPU, 64 cores")]


def test_seeded_block_restores_all_generators_even_after_an_error():
    own, draws = torch.Generator().manual_seed(7), []

    def states():
        of_numpy = np.random.get_state()[1].tolist()  # noqa: NPY002
        return torch.get_rng_state().tolist(), own.get_state().tolist(), of_numpy, random.getstate()

    before = states()
    for _ in range(2):
        with pytest.raises(KeyError), seeded(3, torch.device("cpu"), [own]):
            numbers = np.random.rand(), random.random()  # noqa: NPY002
            draws.append([torch.rand(3).tolist(), torch.rand(3, generator=own).tolist(), *numbers])
            raise KeyError
        own.manual_seed(7)
    assert draws[0] == draws[1] and states() == before
    for wrong in (1.5, "3", None):
        with pytest.raises(ValueError, match="seed must be a whole number"):
            seeded(wrong, torch.device("cpu")).__enter__()


@pytest.mark.parametrize("own", [True, False])
def test_strides_are_those_of_before_and_a_fused_optimizer_stays_right(own, tiny):
    """What an optimizer keeps must be laid out as its parameter is, or fused steps mix it up."""

    def trained(fused):
        torch.manual_seed(0)
        model = build("cnn", 4, 1, 8)
        strides = [tensor.stride() for tensor in model.state_dict().values()]
        adam = torch.optim.Adam(model.parameters(), fused=fused) if own else "adam"
        for epochs in (1, 1):
            train(model, tiny.batches(32), epochs=epochs, lr=0.01, optimizer=adam)
            assert strides == [tensor.stride() for tensor in model.state_dict().values()]
        return model.state_dict()

    torch.testing.assert_close(trained(True), trained(False), rtol=1e-3, atol=1e-5)


def test_only_images_become_channels_last():
    images, labels = torch.rand(2, 3, 4, 5), torch.arange(2)
    moved, same = on_device((images, labels), torch.device("cpu"), True)
    assert torch.equal(moved, images) and torch.equal(same, labels)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert use_channels_last(build("cnn")) and not use_channels_last(build("mlp"))


@pytest.mark.parametrize(
    ("width", "threads", "deterministic"), [(8, 1, True), (128, 2, True), (8, 1, False)]
)
def test_threads_and_search_for_fast_convolutions_are_set_and_restored(
    monkeypatch, width, threads, deterministic
):
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(cudnn, "deterministic", deterministic)
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), performance_settings(nn.Conv2d(1, width, 1)):
            assert torch.get_num_threads() == threads and cudnn.benchmark is not deterministic
            raise KeyError
        assert torch.get_num_threads() == 2 and cudnn.benchmark is False
    finally:
        torch.set_num_threads(1)


def test_only_large_networks_are_trained_in_bfloat16_if_that_is_faster(monkeypatch):
    for faster in (True, False):
        monkeypatch.setattr(devices, "_bfloat16_is_faster", lambda faster=faster: faster)
        assert use_bfloat16(build("resnet20")) is faster
        assert use_bfloat16(build("airbench", in_channels=3, image_size=32)) is faster
        assert not any(map(use_bfloat16, (build("resnet20").double(), build("cnn"))))


@pytest.mark.parametrize(
    ("has_it", "slow", "faster"),
    [
        (True, torch.float32, True),
        (True, torch.bfloat16, False),
        (True, None, False),
        (False, torch.float32, False),
    ],
)
def test_a_trial_decides_on_bfloat16_and_not_the_flag_alone(monkeypatch, has_it, slow, faster):
    def convolve(images, weight, padding):
        time.sleep(0.01 if images.dtype == slow else 0.005)

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(devices, "conv2d", convolve)
    assert devices._bfloat16_is_faster.__wrapped__() is faster
