"""README's example runs as it stands, on a small folder of photographs."""

import os
import re
import subprocess
import sys

from PIL import Image
from sklearn.datasets import load_digits

from unlearning.core.files import ROOT

CLASSES = ("cat", "dog", "horse", "ship")


def write_photos(folder):
    """Twelve images of each class to train on and twelve to test on: digits, 32 x 32 pixels."""
    digits = load_digits()
    for number, name in enumerate(CLASSES):
        own = digits.images[digits.target == number][:24] * 15
        for place, pixels in enumerate(own.astype("uint8")):
            path = folder / ("train" if place < 12 else "test") / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((32, 32)).save(path)


def example():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    return code


def test_the_example_of_an_own_network_runs(tmp_path):
    write_photos(tmp_path / "photos")
    command = [sys.executable, "-W", "error", "-c", example()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["UNLEARNING_CHECKPOINTS"] = str(tmp_path / "checkpoints")
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    names = ["original", "fine-tuning", "NegGrad+", "retrained"]
    assert [name for name in names if any(name in row for row in rows)] == names
    assert "class cat" in done.stdout and "\u00b1" in done.stdout
    made = {path.name.partition("-")[0] for path in (tmp_path / "checkpoints").glob("*.pt")}
    assert made == {"network"}
