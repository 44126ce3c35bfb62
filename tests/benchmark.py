"""Time the package against the same work written the usual way; run it, nothing asserts its times.

  OMP_NUM_THREADS=1 python tests/benchmark.py            all of them, about five minutes
  OMP_NUM_THREADS=1 python tests/benchmark.py training   one of training, fisher, crop, many, resnet

Ratios are of runs in turn, in one process, and the medians are quoted: times of a busy machine are
not comparable, ratios nearly are.
"""

import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from unlearning import Images, accuracy, build, fisher_diagonal, load, run_many
from unlearning.data import flip_and_crop
from unlearning.many import train_many
from unlearning.training import (
    bfloat16_pays,
    classify,
    device_name,
    pick_device,
    predict,
    timed,
    train,
)

EPOCHS, BATCH_SIZE, LR = 5, 64, 1e-3  # of notebook 05


def seconds(call: Callable) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(ours: Callable, usual: Callable, runs: int) -> None:
    """Print the median seconds of both and the median of their ratios."""
    pairs = [(seconds(ours), seconds(usual)) for _ in range(runs)]
    mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(usual / ours for ours, usual in pairs)
    print(f"  here {mine:.3f} s, the usual way {theirs:.3f} s: {ratio:.1f} times the speed")


def training() -> None:
    """Notebook 05's training against torchvision's MNIST, ToTensor, Normalize and a DataLoader."""
    from torchvision import datasets, transforms

    images, test = load("mnist")
    scores = {}

    def ours() -> None:
        torch.manual_seed(0)
        model, batches = build("mlp"), images.batches(BATCH_SIZE, shuffle=True, seed=0)
        train(model, batches, epochs=EPOCHS, lr=LR, optimizer="adam", schedule="constant")
        scores["here"] = accuracy(*predict(model, test.batches(1000)))

    def usual() -> None:
        torch.manual_seed(0)
        model, loss = build("mlp"), torch.nn.CrossEntropyLoss()
        adam = torch.optim.Adam(model.parameters(), lr=LR)
        for _ in range(EPOCHS):
            for pixels, labels in DataLoader(dataset, BATCH_SIZE, shuffle=True):
                adam.zero_grad()
                loss(model(pixels), labels).backward()
                adam.step()
        scores["the usual way"] = accuracy(*predict(model.eval(), test.batches(1000)))

    with tempfile.TemporaryDirectory() as folder:
        write_idx(Path(folder) / "MNIST" / "raw", images.images[:, 0], images.labels)
        normalise = transforms.Normalize(images.mean, images.std)
        steps = transforms.Compose([transforms.ToTensor(), normalise])
        dataset = datasets.MNIST(folder, train=True, transform=steps)
        print(f"training: {EPOCHS} epochs of the MLP on 60,000 images, batch {BATCH_SIZE}")
        in_turn(ours, usual, runs=3)
    print("  test accuracy: " + ", ".join(f"{score:.2%} {who}" for who, score in scores.items()))


def write_idx(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    """The files that torchvision's MNIST reads."""
    folder.mkdir(parents=True)
    for name in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, *images.shape)
        pixels = images.numpy().astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">II", 0x801, len(labels))
        numbers = labels.numpy().astype(np.uint8)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(head + numbers.tobytes())


def fisher() -> None:
    """The exact Fisher of an MLP on 5,000 images against a loop over images and classes."""
    images, _ = load("mnist", train_size=5_000)
    torch.manual_seed(0)
    model = build("mlp")
    train(model, images.batches(64, shuffle=True, seed=0), epochs=5, lr=LR, optimizer="adam")
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
    in_turn(ours, usual, runs=3)
    far = max(
        float((found["here"][name] - value).norm() / value.norm())
        for name, value in found["usual"].items()
    )
    print(f"  largest relative difference of a parameter's diagonal: {far:.1e}")


def crop() -> None:
    """Whole-batch crops against advanced indexing, 512 colour images of 32 x 32."""
    images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8)

    def ours() -> None:
        for _ in range(20):
            flip_and_crop(images, torch.Generator().manual_seed(0), mirror=False)

    def usual() -> None:
        for _ in range(20):
            padded = F.pad(images, (4,) * 4)
            down, right = torch.randint(9, (2, 512, 1))
            rows, columns = down + torch.arange(32), right + torch.arange(32)
            batch, channels = torch.arange(512), torch.arange(3)
            padded[
                batch[:, None, None, None],
                channels[None, :, None, None],
                rows[:, None, :, None],
                columns[:, None, None, :],
            ]

    print("crop: 20 batches of 512 x 3 x 32 x 32, each image at its own place")
    in_turn(ours, usual, runs=5)


def many() -> None:
    """Many small networks: one at a time, as one Ensemble, and one process a core (on a CPU)."""
    device = pick_device()
    count = 16 if device.type == "cpu" else 128
    images = load("mnist", train_size=5_000)[0].to(device)
    for model in ("mlp", "cnn"):
        recipe = {"model": model, "epochs": 3, "lr": 0.1}

        def one_at_a_time(recipe: dict = recipe) -> None:
            for seed in range(count):
                train_many(images, [seed], **recipe)

        def as_one(recipe: dict = recipe) -> None:
            train_many(images, range(count), **recipe)

        def on_all_cores(recipe: dict = recipe) -> None:
            def measure(seeds: list[int]) -> dict:
                for seed in seeds:
                    train_many(images, [seed], **recipe)
                return {"seeds": seeds}

            with tempfile.TemporaryDirectory() as folder:
                run_many(measure, range(count), path=folder, configuration={}, group=count // 8)

        ways = {"one at a time": one_at_a_time, "one Ensemble": as_one}
        ways |= {"one process a core": on_all_cores} if device.type == "cpu" else {}
        for way in ways.values():
            way()  # starts processes, compiles kernels
        times = {name: seconds(way) for name, way in ways.items()}
        first = times["one at a time"]
        print(f"many: {count} times {model}, 3 epochs of 5,000 images, on {device.type}")
        for name, time_taken in times.items():
            print(f"  {name}: {time_taken:.1f} s, {first / time_taken:.1f} times the speed")


def resnet() -> None:
    """ResNet-18's training in images per second, and the share of the device's matrix products."""
    device = pick_device()
    count, batch_size = (50_048, 128) if device.type == "cuda" else (512, 64)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (count,), generator=generator)
    images = Images(pixels, labels, tuple("0123456789"), mirror=True).to(device)
    batches = images.batches(batch_size, shuffle=True, seed=0, augment=True)

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return build("resnet18", in_channels=3).to(device)

    with FlopCounterMode(display=False) as counter:
        model = network()
        classify(model, images.normalise(pixels[:2].to(device)), labels[:2].to(device)).backward()
    each = counter.get_total_flops() / 2
    precision = torch.bfloat16 if bfloat16_pays(model) else torch.float32
    most = products_per_second(device, precision)
    print(f"resnet: ResNet-18 on {count} images, batch {batch_size}, augmented, {device_name()}")
    print(f"  {each / 1e9:.2f} GFLOP an image; products of matrices: {most / 1e12:.2f} TFLOP/s")
    ways = {"as trained here": (network(), None), "in float32": (network(), False)}
    ways["as here, compiled"] = (torch.compile(network()), None)
    for name, (model, mixed_precision) in ways.items():
        recipe = {"epochs": 1, "lr": 0.1, "mixed_precision": mixed_precision}
        train(model, batches, **recipe)  # compiles, and looks for the fastest convolutions
        rate = count / timed(train, model, batches, **recipe).seconds
        print(f"  {name}: {rate:,.0f} images/s, {rate * each / most:.0%} of that rate")


def products_per_second(device: torch.device, precision: torch.dtype) -> float:
    """Floating-point operations a second in products of large square matrices, the best of five."""
    size = 8192 if device.type == "cuda" else 2048
    one, other = torch.randn(2, size, size, device=device).to(precision)
    best = min(timed(torch.mm, one, other).seconds for _ in range(6))
    return 2 * size**3 / best


BENCHMARKS = {"training": training, "fisher": fisher, "crop": crop, "many": many, "resnet": resnet}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
