"""Time the package against the same work written the usual way; nothing asserts the times.

  OMP_NUM_THREADS=1 python tests/benchmark.py            all of them, a few minutes
  OMP_NUM_THREADS=1 python tests/benchmark.py training   one of training, fisher, crop

Both ways run in turn; medians are printed."""

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import Images, build, load, train
from unlearning.core.augment import flip_and_crop
from unlearning.core.loop import timed
from unlearning.curvature import fisher_diagonal

ADAM = {"epochs": 5, "lr": 1e-3, "optimizer": "adam", "schedule": "constant"}  # as notebook 05


def compare(ours: Callable, usual: Callable, *, runs: int, images: int) -> None:
    """Print the images per second of both, from median times."""
    pairs = [(timed(ours).seconds, timed(usual).seconds) for _ in range(runs)]
    mine, theirs = (images / statistics.median(times) for times in zip(*pairs, strict=True))
    speed = f"{mine / theirs:.1f} times the speed"
    print(f"  here {mine:,.0f} images/s, the usual way {theirs:,.0f}: {speed}")


class Pictures(Dataset):  # as torchvision hands them out: through PIL, one at a time
    def __init__(self, images: Images):
        self.pixels, self.labels = images.images[:, 0].numpy(), images.labels.tolist()
        normalise = transforms.Normalize(images.mean, images.std)
        self.transform = transforms.Compose([transforms.ToTensor(), normalise])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, place):
        return self.transform(Image.fromarray(self.pixels[place])), self.labels[place]


def training() -> None:
    """Notebook 05's training against ToTensor, Normalize and a DataLoader."""
    images = load("mnist")[0]

    def ours() -> None:
        train(build("mlp"), images.batches(64, shuffle=True, seed=0), **ADAM)

    def usual() -> None:
        model, loss = build("mlp"), torch.nn.CrossEntropyLoss()
        adam = torch.optim.Adam(model.parameters(), lr=ADAM["lr"])
        for _ in range(ADAM["epochs"]):
            for pixels, labels in DataLoader(Pictures(images), 64, shuffle=True):
                adam.zero_grad()
                loss(model(pixels), labels).backward()
                adam.step()

    print("training: 5 epochs of the MLP on 60,000 images, batch 64")
    compare(ours, usual, runs=3, images=ADAM["epochs"] * len(images))


def fisher() -> None:
    """The exact Fisher against a loop over images and classes."""
    images, _ = load("mnist", train_size=5_000)
    model = train(build("mlp"), images.batches(64, shuffle=True, seed=0), **ADAM)
    found = {}

    def ours() -> None:
        found["here"] = fisher_diagonal(model, images.batches(500))

    def usual() -> None:
        weights = list(model.parameters())
        total = [torch.zeros_like(p).double() for p in weights]
        for pixels, _ in images.batches(1):
            log_p = F.log_softmax(model(pixels), dim=1)[0]
            for label, p in enumerate(log_p.detach().exp()):
                gradients = torch.autograd.grad(log_p[label], weights, retain_graph=True)
                for own, gradient in zip(total, gradients, strict=True):
                    own += p * gradient.square() / len(images)
        found["usual"] = total

    print("fisher: exact diagonal of the MLP on 5,000 images, all classes")
    compare(ours, usual, runs=3, images=len(images))
    pairs = zip(found["here"].values(), found["usual"], strict=True)
    far = max(float((mine - theirs).norm() / theirs.norm()) for mine, theirs in pairs)
    print(f"  largest relative difference of a parameter's diagonal: {far:.1e}")


def crop() -> None:
    """Whole-batch crops against advanced indexing."""
    images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8)
    batch, channels = torch.arange(512)[:, None, None, None], torch.arange(3)[:, None, None]

    def usual() -> None:
        padded = F.pad(images, (4,) * 4)
        down, right = torch.randint(9, (2, 512, 1))
        rows, columns = down + torch.arange(32), right + torch.arange(32)
        padded[batch, channels, rows[:, None, :, None], columns[:, None, None, :]]

    print("crop: a batch of 512 x 3 x 32 x 32, each image at its own place")
    ours = partial(flip_and_crop, images, torch.Generator(), mirror=False)
    compare(ours, usual, runs=50, images=len(images))


BENCHMARKS = {"training": training, "fisher": fisher, "crop": crop}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
