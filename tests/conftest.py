"""What several test files use: a set of images small enough for anything, one CPU thread."""

import pytest
import torch
from hypothesis import settings
from torch.utils.data import DataLoader, TensorDataset

from unlearning import Images

torch.set_num_threads(1)
collect_ignore = ["benchmark.py", "kills.py"]  # scripts, which no test needs
settings.register_profile("here", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("here")


def loader(images: Images, batch_size: int = 16) -> DataLoader:
    """The set as a reader would hand it in: a plain DataLoader of normalised floats, in order."""
    return DataLoader(
        TensorDataset(images.normalise(images.images), images.labels), batch_size=batch_size
    )


@pytest.fixture(scope="session", autouse=True)
def checkpoints_of_notebooks(tmp_path_factory):
    """Notebooks that tests run keep their networks in a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLEARNING_CHECKPOINTS", str(tmp_path_factory.mktemp("checkpoints")))
        yield


@pytest.fixture(name="loader")
def loader_fixture():
    return loader


@pytest.fixture(scope="session")
def tiny() -> Images:
    """96 noisy images (1, 8, 8) of 4 classes, 24 of each: class k has quadrant k brightened."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(24)
    pixels = torch.randint(0, 160, (96, 1, 8, 8), generator=generator)
    for label in range(4):
        down, right = 4 * (label // 2), 4 * (label % 2)
        pixels[labels == label, :, down : down + 4, right : right + 4] += 80
    return Images(pixels.to(torch.uint8), labels, mean=(0.4,), std=(0.2,))
