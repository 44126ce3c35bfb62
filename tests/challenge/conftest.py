"""Faces of random pixels in the challenge's layout, and networks small enough for hundreds."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from unlearning.challenge import write_checkpoints

SIZES = {"retain": 40, "forget": 12, "validation": 15, "test": 25}


@pytest.fixture
def faces(tmp_path):
    """The folder; persons 9 to 11, since their order as text is not that of the numbers."""
    generator, number = np.random.default_rng(0), 0
    for part, size in SIZES.items():
        rows = []
        for person in generator.integers(9, 12, size):
            file = tmp_path / f"faces/images/{person}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(file)
            age = number % 10 * 10 + int(generator.integers(10))
            rows.append((f"{person}-{number}", age // 10, age, person))
            number += 1
        columns = ["image_id", "age_group", "age", "person_id"]
        pd.DataFrame(rows, columns=columns).to_csv(tmp_path / f"faces/{part}.csv", index=False)
    return tmp_path / "faces"


@pytest.fixture
def perturbed():
    """``perturbed(seed)``: a network of pixels from 0 to 255 with noise of its own."""

    def make(seed=0):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10), nn.BatchNorm1d(10)).eval()
        shared, own = (torch.Generator().manual_seed(s) for s in (0, seed))
        with torch.no_grad():
            noise = torch.randn(10, 192, generator=own) / 4
            model[1].weight[:] = (torch.randn(10, 192, generator=shared) + noise) / 1000
            model[1].bias[:] = 0
        return model

    return make


@pytest.fixture
def written(tmp_path, perturbed):
    """A folder of twelve checkpoints."""
    write_checkpoints(perturbed, perturbed(), tmp_path / "checkpoints", count=12, n_jobs=1)
    return tmp_path / "checkpoints"
