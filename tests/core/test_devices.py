"""core.devices: where, how precisely and on how many threads a network runs; seeds for a block."""

import pytest
import torch
from torch import nn

from unlearning import build
from unlearning.core import devices
from unlearning.core.devices import (
    device_name,
    device_of,
    machine,
    on_device,
    performance_settings,
    pick_device,
    seeded,
    use_bfloat16,
    use_channels_last,
)


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_device_is_cuda_else_mps_else_the_cpu(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H100")
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 64)
    assert pick_device() == torch.device(device)
    names = {"cuda": "H100", "mps": "MPS", "cpu": "CPU, 64 cores"}
    assert device_name() == names[device]
    assert machine() == {"device": names[device], "torch": torch.__version__.partition("+")[0]}


def test_device_is_that_of_the_parameters_else_the_buffers_else_the_cpu():
    with torch.device("meta"):
        assert device_of(build("mlp")).type == "meta"
    assert device_of(nn.BatchNorm1d(3, affine=False, device="meta")).type == "meta"
    assert device_of(nn.Flatten()).type == "cpu"


def test_seeded_block_restores_the_generator_even_after_an_error():
    state = torch.get_rng_state()
    draws = []
    for _ in range(2):
        with pytest.raises(KeyError), seeded(3, torch.device("cpu")):
            draws.append(torch.rand(3).tolist())
            raise KeyError
    assert draws[0] == draws[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_only_images_become_channels_last():
    images, labels = torch.rand(2, 3, 4, 5), torch.arange(2)
    for wanted in (False, True):
        moved, same = on_device((images, labels), torch.device("cpu"), wanted)
        assert torch.equal(moved, images) and torch.equal(same, labels)
        assert moved.is_contiguous(memory_format=torch.channels_last) is wanted
    assert use_channels_last(build("cnn")) and not use_channels_last(build("mlp"))


def test_cudnn_looks_for_fast_convolutions_unless_it_is_deterministic(monkeypatch):
    cudnn = torch.backends.cudnn
    for deterministic in (False, True):
        monkeypatch.setattr(cudnn, "deterministic", deterministic)
        with performance_settings(build("mlp")):
            assert cudnn.benchmark is not deterministic
        assert cudnn.benchmark is False


def test_threads_are_one_for_a_small_network_all_for_a_wide_one_and_restored():
    torch.set_num_threads(2)
    try:
        for width, threads in ((8, 1), (128, 2)):
            with pytest.raises(KeyError), performance_settings(nn.Conv2d(1, width, 1)):
                assert torch.get_num_threads() == threads
                raise KeyError
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("has_it", [True, False])
def test_only_deep_networks_are_trained_in_bfloat16_if_the_processor_has_it(monkeypatch, has_it):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    for name in ("resnet20", "resnet18"):
        assert use_bfloat16(build(name)) is has_it
        assert not use_bfloat16(build(name).double())
    assert not any(use_bfloat16(build(name)) for name in ("mlp", "cnn"))
