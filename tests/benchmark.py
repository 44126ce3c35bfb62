"""How fast the network of airbench trains on one CPU thread: ``python tests/benchmark.py``.

Prints images/s of training steps, and their share of the rate at which the same precision
multiplies matrices; then images/s of an epoch by ``train`` and by a plain DataLoader with
torchvision's transforms. All by processor time, which other work on the machine changes less.
"""

import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).parent.parent))
from unlearning import build, load, train
from unlearning.core.devices import machine
from unlearning.core.losses import cross_entropy

SGD = {"lr": 0.2, "momentum": 0.85, "weight_decay": 1.3e-3}
IMAGES = 1024  # of an epoch


def seconds(call, times=3) -> float:
    """Processor time of the fastest call, after one that does not count."""
    found = []
    for _ in range(times + 1):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found[1:])


def product_rate(dtype: torch.dtype) -> float:
    a = torch.randn(2048, 2048).to(dtype)
    return 2 * 2048**3 / seconds(lambda: a @ a)


def operations(model: nn.Module) -> int:
    """Of the products in a training step, for one image: three times those of its forward pass."""
    counts = []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(
                lambda own, _, out: counts.append(6 * own.weight[0].numel() * out[0].numel())
            )
    model(torch.zeros(2, 3, 32, 32))
    return sum(counts)


def step_rate(name: str, size: int, dtype: torch.dtype, layout: torch.memory_format) -> float:
    """Images/s of a training step in batches of ``size``."""
    model = build(name, 10, 3, 32).to(memory_format=layout)
    images = torch.randn(size, 3, 32, 32).to(memory_format=layout)
    labels = torch.arange(size) % 10
    trained = [p for p in model.parameters() if p.requires_grad]
    sgd = torch.optim.SGD(trained, **SGD, nesterov=True, fused=True)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss = cross_entropy(model(images), labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    return size / seconds(step)


def plain(model: nn.Module, images, size: int) -> None:
    """An epoch as tutorials write it: float32, one image at a time through transforms."""
    chain = [transforms.ToPILImage(), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    change = transforms.Compose([*chain, transforms.Normalize(images.mean, images.std)])
    pairs = zip(images.images, images.labels, strict=True)
    sets = [(image, int(label)) for image, label in pairs]
    loader = DataLoader(sets, size, shuffle=True, collate_fn=lambda some: (
        torch.stack([change(image) for image, _ in some]), torch.tensor([y for _, y in some])
    ))  # fmt: skip
    sgd = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], **SGD, nesterov=True)
    loss = nn.CrossEntropyLoss()
    model.train()
    for pixels, labels in loader:
        sgd.zero_grad()
        loss(model(pixels), labels).backward()
        sgd.step()


def ours(model: nn.Module, images, size: int) -> None:
    options = {"optimizer": "nesterov", "schedule": "triangular"}
    batches = images.batches(size, shuffle=True, augment="alternate", seed=0)
    train(model, batches, epochs=1, **SGD, **options)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(machine())
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    networks = ("airbench", "airbench-full", "resnet18")
    layouts = {"last": torch.channels_last, "first": torch.contiguous_format}
    rates = {kind: product_rate(dtype) for kind, dtype in kinds.items()}
    print({kind: f"product {rate / 1e9:.0f} GFLOP/s" for kind, rate in rates.items()})
    cases = [("airbench", 128, "first"), *((name, 128, "last") for name in networks)]
    cases += [(name, 512, "last") for name in networks[:2]]
    print(
        f"{'network':14} {'batch':>5} {'channels':8} {'precision':9} {'images/s':>8} {'share':>5}"
    )
    for name, size, layout in cases:
        cost = operations(build(name, 10, 3, 32))
        for kind, dtype in kinds.items():
            rate = step_rate(name, size, dtype, layouts[layout])
            share = rate * cost / rates[kind]
            print(f"{name:14} {size:5} {layout:8} {kind:9} {rate:8.0f} {share:5.0%}", flush=True)
    images, _ = load("cifar10", train_size=IMAGES)
    for epoch in (ours, plain):
        model = build("airbench", 10, 3, 32)
        rate = IMAGES / seconds(lambda epoch=epoch, model=model: epoch(model, images, 128), 2)
        print(f"epoch of airbench, batches of 128, {epoch.__name__}: {rate:.0f} images/s")


if __name__ == "__main__":
    main()
