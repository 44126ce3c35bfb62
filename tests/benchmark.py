"""Time the package against the same work written the usual way; nothing asserts the times.

  OMP_NUM_THREADS=1 python tests/benchmark.py            all of them, about five minutes
  OMP_NUM_THREADS=1 python tests/benchmark.py training   one of training, fisher, crop, many, resnet

Both ways run in turn in one process, and medians are printed: on a busy machine times cannot be
compared, but ratios nearly can.
"""

import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import Images, build, load, predict, run_many, train
from unlearning.core.augment import flip_and_crop
from unlearning.core.devices import device_name, use_bfloat16
from unlearning.core.losses import classification_loss
from unlearning.curvature import fisher_diagonal
from unlearning.metrics import accuracy
from unlearning.training import fresh_network, pick_device, timed

ADAM = {"epochs": 5, "lr": 1e-3, "optimizer": "adam", "schedule": "constant"}  # as notebook 05


def compare(ours: Callable, usual: Callable, runs: int) -> None:
    """Print the median seconds of both and the median of their ratios."""
    pairs = [(timed(ours).seconds, timed(usual).seconds) for _ in range(runs)]
    mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(usual / ours for ours, usual in pairs)
    print(f"  here {mine:.3f} s, the usual way {theirs:.3f} s: {ratio:.1f} times the speed")


class Pictures(Dataset):
    """Images as torchvision's data sets hand them out: through PIL, one at a time."""

    def __init__(self, images: Images):
        self.pixels, self.labels = images.images[:, 0].numpy(), images.labels.tolist()
        normalise = transforms.Normalize(images.mean, images.std)
        self.transform = transforms.Compose([transforms.ToTensor(), normalise])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple:
        return self.transform(Image.fromarray(self.pixels[place])), self.labels[place]


def training() -> None:
    """Notebook 05's training against ToTensor, Normalize and a DataLoader."""
    images, test = load("mnist")
    pictures, scores = Pictures(images), {}

    def ours() -> None:
        torch.manual_seed(0)
        model = train(build("mlp"), images.batches(64, shuffle=True, seed=0), **ADAM)
        scores["here"] = accuracy(*predict(model, test.batches(1000)))

    def usual() -> None:
        torch.manual_seed(0)
        model, loss = build("mlp"), torch.nn.CrossEntropyLoss()
        adam = torch.optim.Adam(model.parameters(), lr=ADAM["lr"])
        for _ in range(ADAM["epochs"]):
            for pixels, labels in DataLoader(pictures, 64, shuffle=True):
                adam.zero_grad()
                loss(model(pixels), labels).backward()
                adam.step()
        scores["the usual way"] = accuracy(*predict(model.eval(), test.batches(1000)))

    print("training: 5 epochs of the MLP on 60,000 images, batch 64")
    compare(ours, usual, runs=3)
    print("  test accuracy: " + ", ".join(f"{score:.2%} {who}" for who, score in scores.items()))


def fisher() -> None:
    """The exact Fisher of an MLP on 5,000 images against a loop over images and classes."""
    images, _ = load("mnist", train_size=5_000)
    torch.manual_seed(0)
    model = train(build("mlp"), images.batches(64, shuffle=True, seed=0), **ADAM)
    found = {}

    def ours() -> None:
        found["here"] = fisher_diagonal(model, images.batches(500))

    def usual() -> None:
        total = {name: torch.zeros_like(p).double() for name, p in model.named_parameters()}
        for pixels, _ in images.batches(1):
            log_p = F.log_softmax(model(pixels), dim=1)[0]
            for label, p in enumerate(log_p.detach().exp()):
                gradients = torch.autograd.grad(
                    log_p[label], list(model.parameters()), retain_graph=True
                )
                for name, gradient in zip(total, gradients, strict=True):
                    total[name] += p * gradient.square() / len(images)
        found["usual"] = total

    print("fisher: exact diagonal of the MLP on 5,000 images, all classes")
    compare(ours, usual, runs=3)
    far = max(
        float((found["here"][name] - value).norm() / value.norm())
        for name, value in found["usual"].items()
    )
    print(f"  largest relative difference of a parameter's diagonal: {far:.1e}")


def crop() -> None:
    """Whole-batch crops against advanced indexing."""
    images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8)
    batch, channels = torch.arange(512)[:, None, None, None], torch.arange(3)[:, None, None]

    def ours() -> None:
        for _ in range(20):
            flip_and_crop(images, torch.Generator().manual_seed(0), mirror=False)

    def usual() -> None:
        for _ in range(20):
            padded = F.pad(images, (4,) * 4)
            down, right = torch.randint(9, (2, 512, 1))
            rows, columns = down + torch.arange(32), right + torch.arange(32)
            padded[batch, channels, rows[:, None, :, None], columns[:, None, None, :]]

    print("crop: 20 batches of 512 x 3 x 32 x 32, each image at its own place")
    compare(ours, usual, runs=5)


def many() -> None:
    """16 small networks on all cores of a CPU against one after the other."""
    images = load("mnist", train_size=5_000)[0]

    def measure(seeds: list[int], model: str) -> dict:
        for seed in seeds:
            batches = images.batches(64, shuffle=True, seed=seed)
            train(fresh_network(model, images, seed), batches, epochs=3, lr=0.1)
        return {"seeds": seeds}

    for model in ("mlp", "cnn"):

        def run(n_jobs: int, model: str = model) -> None:
            with tempfile.TemporaryDirectory() as folder:
                options = {"path": folder, "configuration": {}, "group": 2, "n_jobs": n_jobs}
                run_many(lambda seeds: measure(seeds, model), range(16), **options)

        run(-1)  # starts the processes
        print(f"many: 16 times {model}, 3 epochs of 5,000 images")
        compare(lambda: run(-1), lambda: run(1), runs=1)


def resnet() -> None:
    """ResNet-18's training in images per second, and the share of the device's matrix products."""
    device = pick_device()
    count, batch_size = (50_048, 128) if device.type == "cuda" else (512, 64)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = Images(pixels, labels, tuple("0123456789"), mirror=True).to(device)
    batches = images.batches(batch_size, shuffle=True, seed=0, augment=True)
    model, plain, compiled = (fresh_network("resnet18", images, 0).to(device) for _ in range(3))

    with FlopCounterMode(display=False) as counter:
        classification_loss(model, *next(iter(images.batches(2)))).backward()
    each = counter.get_total_flops() / 2
    most = products_per_second(device, torch.bfloat16 if use_bfloat16(model) else torch.float32)
    print(f"resnet: ResNet-18 on {count} images, batch {batch_size}, augmented, {device_name()}")
    print(f"  {each / 1e9:.2f} GFLOP per image; products of matrices: {most / 1e12:.2f} TFLOP/s")
    ways = {"as trained here": (model, None), "in float32": (plain, False)}
    ways["as here, compiled"] = (torch.compile(compiled), None)
    for name, (network, mixed_precision) in ways.items():
        options = {"epochs": 1, "lr": 0.1, "mixed_precision": mixed_precision}
        train(network, batches, **options)  # compiles, and looks for the fastest convolutions
        rate = count / timed(train, network, batches, **options).seconds
        print(f"  {name}: {rate:,.0f} images/s, {rate * each / most:.0%} of that rate")


def products_per_second(device: torch.device, precision: torch.dtype) -> float:
    """Floating-point operations per second in products of large square matrices, best of six."""
    size = 8192 if device.type == "cuda" else 2048
    one, other = torch.randn(2, size, size, device=device).to(precision)
    return 2 * size**3 / min(timed(torch.mm, one, other).seconds for _ in range(6))


BENCHMARKS = {"training": training, "fisher": fisher, "crop": crop, "many": many, "resnet": resnet}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
