"""The NeurIPS 2023 machine unlearning challenge, here: its data, a submission, and its score.

The task: faces in ten age groups, a ResNet-18 trained on all of them, and a forget set. A
submission is a zip of 512 checkpoints, each of the original network unlearned with another seed.

Source: the organisers' notebook (kaggle.com/code/eleni30fillou/run-unlearn-finetune), whose layout,
file names and number format these are, and the scorer that they released
(github.com/google-deepmind/unlearning_evaluation).
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.special import expit
from torch import Tensor, nn
from tqdm import tqdm

from .core.configuration import as_json, check_or_write_config
from .core.files import atomic_write
from .core.images import Images
from .core.workers import imap_unordered
from .data import channels_first
from .metrics import accuracy
from .metrics.forgetting_quality import (
    ForgettingQuality,
    challenge_score,
    forgetting_quality,
    logit_scaled_confidence,
)
from .metrics.per_example import klom, rmia, roc, u_lira
from .splitting import Split
from .training import pick_device, predict

COUNT = 512  # checkpoints of a submission, exactly
NAME = "unlearned_checkpoint"
OFFLINE_A = 0.3  # RMIA's, as in its authors' code where no network is there to choose it on
READ_TOGETHER = 16  # checkpoints that one process measures at a time

# ------------------------------------------------------------------------------------------------
# Data


class Challenge(NamedTuple):
    """The challenge's sets. ``validation`` and ``test`` are None where their csv is not there.

    ``records`` holds what the csv files say of each image beside its label ("image_id", "age",
    "person_id"): a table a set, a row an image, in the order of the images.
    """

    retain: Images
    forget: Images
    validation: Images | None
    test: Images | None
    records: dict[str, pd.DataFrame]

    @property
    def split(self) -> Split:
        """What is retained and forgotten, as ``evaluate`` takes it."""
        return Split(self.retain, self.forget)


def load_challenge(
    folder: Path | str,
    *,
    num_classes: int = 10,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1 / 255,),
) -> Challenge:
    """Read the challenge's data, or data laid out like it.

    In the folder are retain.csv and forget.csv, and may be validation.csv and test.csv, with the
    columns image_id, age_group, and usually age and person_id. Image "12-345" is the file
    images/12/345.png; all are of one size. They come in the order of their paths, as in the
    organisers' notebook, and as uint8 (N, 3, H, W), labelled by age group.

    Args:
        folder: that holds them.
        num_classes: age groups.
        mean, std: of the normalisation. By default there is none, and pixels go from 0 to 255:
            so the organisers' notebook feeds the challenge's original_model.pth.

    Raises:
        FileNotFoundError: retain.csv, forget.csv or an image is not there.
        ValueError: a csv without its columns or rows, an age group that does not exist, an image
            that cannot be read or is of another size, or one that is in two places.
    """
    folder = Path(folder)
    records = {
        part: read_records(folder, part, num_classes)
        for part in Challenge._fields[:4]
        if part in ("retain", "forget") or (folder / f"{part}.csv").exists()
    }
    refuse_overlap(records)
    sets = {
        part: Images(
            decode(part, folder, [image_file(name) for name in rows.image_id]),
            torch.tensor(rows.age_group.tolist()),
            tuple(f"age group {group}" for group in range(num_classes)),
            mean,
            std,
            mirror=True,
        )
        for part, rows in records.items()
    }
    return Challenge(*(sets.get(part) for part in Challenge._fields[:4]), records)


def image_file(image_id: str) -> str:
    """Where an image is: "12-345" is at images/12/345.png."""
    within, _, name = image_id.partition("-")
    return f"images/{within}/{name}.png"


def read_records(folder: Path, part: str, num_classes: int) -> pd.DataFrame:
    """The rows of a csv in the order of their images' paths."""
    file = folder / f"{part}.csv"
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is not there: the folder must hold retain.csv, forget.csv and images/ (the "
            "faces of the challenge itself were never released; its download is an empty.txt)"
        )
    try:
        rows = pd.read_csv(file, dtype={"image_id": str})
    except pd.errors.ParserError as error:
        raise ValueError(f"{file} cannot be read as a csv ({str(error).strip()})") from error
    except pd.errors.EmptyDataError:
        rows = pd.DataFrame()
    lacking = [name for name in ("image_id", "age_group") if name not in rows]
    if lacking or len(rows) == 0:
        raise ValueError(
            f"{file} must have a row an image and the columns image_id and age_group: "
            + (f"it has no {lacking[0]}" if lacking else "it has no rows")
        )
    groups = pd.to_numeric(rows.age_group, errors="coerce")
    wrong = ~groups.isin(range(num_classes)) | rows.image_id.isna()
    if wrong.any():
        row = rows[wrong].iloc[0]
        raise ValueError(
            f"{file}: image {row.image_id} is of age group {row.age_group}, but there are "
            f"{num_classes}, numbered from 0"
        )
    rows = rows.assign(age_group=groups.astype(np.int64))
    return rows.sort_values("image_id", ignore_index=True)  # the order of the paths, too


def refuse_overlap(records: dict[str, pd.DataFrame]) -> None:
    """Refuse an image that is in two sets, or twice in one: then forgotten would not be so."""
    ids = pd.concat({part: rows.image_id for part, rows in records.items()})
    twice = ids[ids.duplicated(keep=False)]
    if len(twice):
        places = twice[twice == twice.iloc[0]].index.get_level_values(0)
        raise ValueError(
            f"image {twice.iloc[0]} is in {places[0]}.csv and in {places[1]}.csv, which must not "
            f"share images ({twice.nunique()} are shared): leave it in one place"
        )


def decode(part: str, folder: Path, names: Sequence[str]) -> Tensor:
    """PNG files as one uint8 tensor (N, 3, H, W)."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(names)} images that {folder / part}.csv names have no "
            f"file, the first is {folder / missing[0]}: put all of images/ beside the csv files"
        )
    images = None
    for place, name in enumerate(names):
        try:
            with Image.open(folder / name) as opened:
                pixels = np.asarray(opened.convert("RGB"))
        except (OSError, SyntaxError) as error:  # the latter is Pillow's of a damaged PNG
            raise ValueError(f"{folder / name} cannot be read as an image ({error})") from error
        if images is None:
            images = np.empty((len(names), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"{folder / name} is of height and width {pixels.shape[:2]}, but the first image, "
                f"{names[0]}, of {images.shape[1:3]}: all must be of one size"
            )
        images[place] = pixels
    return channels_first(images)


# ------------------------------------------------------------------------------------------------
# A submission


def write_checkpoints(
    unlearn: Callable[[int], nn.Module],
    original: nn.Module,
    folder: Path | str,
    *,
    count: int = COUNT,
    seed: int = 0,
    half: bool = False,
    configuration: dict | None = None,
    name: str = NAME,
    n_jobs: int | None = None,
) -> list[Path]:
    """Unlearn ``count`` times and write ``<name>_<i>.pth``, the weights of ``unlearn(seed + i)``.

    A checkpoint is a state dict of tensors alone, as the challenge's scorer loads it. It appears
    whole or not at all, and one that is there is not made again: killed at any moment, the same
    call goes on. Runs on joblib's workers, see ``run_many``; on a GPU say ``n_jobs=1``. Retrained
    networks can be written in the same way, under another name in another folder.

    Args:
        unlearn: ``unlearn(seed) -> network``.
        original: what is unlearned. A checkpoint must have its weights' names and shapes.
        folder: for the checkpoints, and a configuration.json that says what they were made with.
        count: how many. A larger count goes on where a smaller one ended.
        seed: of the first.
        half: write in float16, which halves the 23 GB of 512 ResNet-18. The organisers' notebook
            writes float32.
        configuration: what else the checkpoints depend on, as JSON has it.
        name: of the files.
        n_jobs: as ``run_many``.

    Returns:
        The files, in order.

    Raises:
        ValueError: a folder of other checkpoints; a network with other weights than the original,
            or with some that are not finite.
        RuntimeError, Exception: as ``run_many``.
    """
    folder = Path(folder)
    about = {"original": digest_of_weights(original), "seed": seed, "half": half}
    check_or_write_config(folder, {**about, "configuration": as_json(configuration)})
    files = {seed + number: folder / f"{name}_{number}.pth" for number in range(count)}
    missing = [own for own, file in files.items() if not is_complete(file)]
    wanted = shapes_of(original.state_dict())

    def made(own: int) -> bytes:
        return as_checkpoint(unlearn(own).state_dict(), wanted, half=half)

    done = count - len(missing)
    bar = tqdm(total=count, initial=done, desc="checkpoints", leave=False, disable=None)
    with bar, closing(imap_unordered(made, missing, n_jobs=n_jobs)) as finished:
        for own, content in finished:
            with atomic_write(files[own]) as tmp_path:
                tmp_path.write_bytes(content)
            bar.update()
    return list(files.values())


def is_complete(file: Path) -> bool:
    """Whether a checkpoint is there to its end, where torch's format has its table of contents."""
    return file.is_file() and zipfile.is_zipfile(file)


def shapes_of(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def as_checkpoint(state: dict[str, Tensor], wanted: dict[str, tuple], *, half: bool) -> bytes:
    """The bytes of a checkpoint: tensors on the CPU, none of them a view of a larger one."""
    found = shapes_of(state)
    if found != wanted:
        name = next(k for k in found | wanted if found.get(k) != wanted.get(k))
        raise ValueError(
            f"an unlearned network must have the original's weights, but {name} is of shape "
            f"{found.get(name)} and the original's of {wanted.get(name)}"
        )
    tensors = {}
    for name, tensor in state.items():
        dtype = torch.float16 if half and tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.detach().to("cpu", dtype, copy=True).contiguous()
        if not tensors[name].isfinite().all():
            where = " in half precision" if tensor.isfinite().all() else ""
            raise ValueError(f"{name} of an unlearned network is not finite{where}")
    content = io.BytesIO()
    torch.save(tensors, content)
    return content.getvalue()


def digest_of_weights(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def zip_submission(
    folder: Path | str, path: Path | str, *, count: int = COUNT, name: str = NAME
) -> Path:
    """Zip the checkpoints ``<name>_0.pth`` and so on, uncompressed: random numbers do not shrink.

    The zip appears whole or not at all.

    Raises:
        FileNotFoundError: a checkpoint is not there; names it.
        ValueError: one is damaged, or there are others than those.
    """
    folder, path = Path(folder), Path(path)
    files = [folder / f"{name}_{number}.pth" for number in range(count)]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {count} checkpoints are missing, the first is {missing[0]}: "
            "write_checkpoints goes on where it ended"
        )
    damaged = [file for file in files if not is_complete(file)]
    if damaged:
        raise ValueError(f"{damaged[0]} is damaged: delete it, and let write_checkpoints go on")
    others = sorted(set(folder.glob("*.pth")) - set(files))
    if others:
        raise ValueError(
            f"{others[0]} is not among the {count} checkpoints of the submission, which must be "
            "all there is: give the right count, or move it away"
        )
    with (
        atomic_write(path) as tmp_path,
        zipfile.ZipFile(tmp_path, "w", strict_timestamps=False) as archive,
    ):
        for file in tqdm(files, desc="zip", leave=False, disable=None):
            archive.write(file, file.name)
    return path


# ------------------------------------------------------------------------------------------------
# Its score


class Measured(NamedTuple):
    """What the score needs of N networks: confidences (N, S) on the forget set, accuracies (N,)."""

    confidences: np.ndarray
    retain_accuracy: np.ndarray
    forget_accuracy: np.ndarray
    test_accuracy: np.ndarray


class Score(NamedTuple):
    """A submission's score and what it is made of.

    ``score`` is ``quality`` (F) x ``retain_ratio`` x ``test_ratio``, or 0 when too slow.
    ``ceiling`` is F of a second set of retrained networks, ``floor`` F of the original.
    """

    score: float
    quality: float
    retain_ratio: float
    test_ratio: float
    ceiling: float | None
    floor: float | None
    retain_accuracy: float
    test_accuracy: float
    retrained_retain_accuracy: float
    retrained_test_accuracy: float
    details: ForgettingQuality


def score_submission(
    submission: Path | str | Measured,
    retrained: Path | str | Measured,
    build: Callable[[], nn.Module],
    *,
    retain: Images,
    forget: Images,
    test: Images,
    second_retrained: Path | str | Measured | None = None,
    original: nn.Module | None = None,
    seconds: float | None = None,
    retraining_seconds: float | None = None,
    delta: float = 1e-5,
    bins: int = 13,
    resamples: int = 0,
    seed: int = 0,
    device: torch.device | str | None = None,
    n_jobs: int | None = None,
) -> Score:
    """Score a submission as the challenge does: F x RA_u / RA_r x TA_u / TA_r.

    F is ``forgetting_quality`` of unlearned against retrained networks on the forget set, RA and TA
    the accuracies on the retain and the test set, means over the networks. Retraining itself does
    not reach 1: print F beside the ceiling and the floor.

    Args:
        submission: a folder or a zip of checkpoints, or what ``measure_checkpoints`` gave for it.
        retrained: the same of networks trained from scratch without the forget set.
        build: ``build() -> network`` that the checkpoints fit.
        retain, forget, test: the sets, in the normalisation that the networks were trained with.
        second_retrained: other networks trained from scratch, for the ceiling.
        original: the network before unlearning, for the floor: N copies of it.
        seconds, retraining_seconds: of one network; over 20 % of retraining's the score is 0.
        delta, bins, resamples, seed: as ``forgetting_quality``.
        device, n_jobs: as ``measure_checkpoints``.

    Raises:
        ValueError, FileNotFoundError: as ``measure_checkpoints`` and ``forgetting_quality``.
    """
    sets = {"retain": retain, "forget": forget, "test": test}

    def measured(networks: Path | str | Measured) -> Measured:
        if isinstance(networks, Measured):
            return networks
        how = {"device": device, "n_jobs": n_jobs}
        return measure_checkpoints(networks, build, **sets, **how)

    ours, theirs = measured(submission), measured(retrained)
    shared = {"delta": delta, "bins": bins, "seed": seed}
    details = forgetting_quality(
        ours.confidences, theirs.confidences, resamples=resamples, **shared
    )
    accuracies = {
        "retain_accuracy": float(ours.retain_accuracy.mean()),
        "test_accuracy": float(ours.test_accuracy.mean()),
        "retrained_retain_accuracy": float(theirs.retain_accuracy.mean()),
        "retrained_test_accuracy": float(theirs.test_accuracy.mean()),
    }
    score = challenge_score(
        details.quality, **accuracies, seconds=seconds, retraining_seconds=retraining_seconds
    )

    def quality_of(confidences: np.ndarray) -> float:
        return forgetting_quality(confidences, theirs.confidences, **shared).quality

    ceiling = floor = None
    if second_retrained is not None:
        ceiling = quality_of(measured(second_retrained).confidences)
    if original is not None:
        one = confidences_of(original, forget)
        floor = quality_of(np.tile(one, (len(ours.confidences), 1)))
    retain_ratio = accuracies["retain_accuracy"] / accuracies["retrained_retain_accuracy"]
    test_ratio = accuracies["test_accuracy"] / accuracies["retrained_test_accuracy"]
    return Score(
        score=score,
        quality=details.quality,
        retain_ratio=retain_ratio,
        test_ratio=test_ratio,
        ceiling=ceiling,
        floor=floor,
        **accuracies,
        details=details,
    )


def measure_checkpoints(
    source: Path | str,
    build: Callable[[], nn.Module],
    *,
    retain: Images,
    forget: Images,
    test: Images,
    device: torch.device | str | None = None,
    n_jobs: int | None = None,
) -> Measured:
    """What the score needs of every checkpoint, ordered by the numbers in their names.

    Worth keeping for the retrained networks: they are the same for every submission.

    Args:
        source: folder or zip whose ``.pth`` files are state dicts; a zip may hold them in folders.
        build: ``build() -> network`` that they fit.
        retain, forget, test: as ``score_submission``.
        device: of the predictions; by default the best there is.
        n_jobs: as ``run_many``.

    Raises:
        FileNotFoundError: no such folder or zip.
        ValueError: no checkpoints; one that cannot be read or does not fit; names it.
    """
    source = Path(source)
    device = pick_device() if device is None else torch.device(device)
    names = names_in(source)
    starts = range(0, len(names), READ_TOGETHER)
    groups = [tuple(names[start : start + READ_TOGETHER]) for start in starts]
    sets = [images.to(device) for images in (retain, forget, test)]

    def measured(own: tuple[str, ...]) -> list[tuple]:
        network = build().to(device)
        return [numbers_of(load_weights(network, source, name), *sets) for name in own]

    rows = {}
    bar = tqdm(total=len(names), desc="reading networks", leave=False, disable=None)
    with bar, closing(imap_unordered(measured, groups, n_jobs=n_jobs)) as finished:
        for own, numbers in finished:
            rows.update(zip(own, numbers, strict=True))
            bar.update(len(own))
    return Measured(*(np.stack(column) for column in zip(*map(rows.get, names), strict=True)))


def numbers_of(
    network: nn.Module, retain: Images, forget: Images, test: Images
) -> tuple[np.ndarray, float, float, float]:
    """One network's row of ``Measured``."""
    parts = (predict(network, images.sequential_batches()) for images in (retain, forget, test))
    retain_read, forget_read, test_read = parts
    return (
        logit_scaled_confidence(*forget_read),
        accuracy(*retain_read),
        accuracy(*forget_read),
        accuracy(*test_read),
    )


def quality_table(
    measured: Mapping[str, Mapping[str, np.ndarray]],
    *,
    retrained: str = "retrained",
    ceiling: str = "retrained again",
    resamples: int = 0,
    seed: int = 0,
) -> tuple[pd.DataFrame, dict[str, ForgettingQuality]]:
    """F of every kind of network against the retrained ones, beside the ceiling, and its score.

    Args:
        measured: name -> what ``measuring`` gives of N networks, stacked.
        retrained: the name of the yardstick, which has no row.
        ceiling: the name of a second set of retrained networks.
        resamples, seed: of the bootstrap over networks; 0 leaves its interval out.

    Returns:
        The table, a row a name: F, its half width (95 %, over networks), F / ceiling, the score
        without and with the rule that rejects what takes over 20 % of retraining's time, accuracies
        and time in per cent; and name -> ``ForgettingQuality``.
    """
    theirs, rows, found = measured[retrained], {}, {}
    for name in (name for name in measured if name != retrained):
        ours = measured[name]
        found[name] = forgetting_quality(
            ours["confidences"], theirs["confidences"], resamples=resamples, seed=seed
        )
        quality, interval = found[name].quality, found[name].interval_networks
        accuracies = {part: ours[part] for part in ("retain_accuracy", "test_accuracy")}
        accuracies |= {f"retrained_{part}": theirs[part] for part in accuracies}
        times = {"seconds": ours["seconds"].mean(), "retraining_seconds": theirs["seconds"].mean()}
        rows[name] = {
            "F": quality,
            "F, half width": np.ptp(interval) / 2 if interval else np.nan,
            "score": challenge_score(quality, **accuracies),
            "score, 20 % rule": challenge_score(quality, **accuracies, **times),
            "retain accuracy (%)": 100 * ours["retain_accuracy"].mean(),
            "test accuracy (%)": 100 * ours["test_accuracy"].mean(),
            "time (% of retraining)": 100 * times["seconds"] / times["retraining_seconds"],
        }
    numbers = pd.DataFrame(rows).T
    numbers.insert(2, "F / ceiling", numbers["F"] / numbers.loc[ceiling, "F"])
    return numbers, found


def attack_table(
    measured: Mapping[str, Mapping[str, np.ndarray]],
    *,
    retrained: str = "retrained",
    references: int = 4,
) -> pd.DataFrame:
    """What other measures say of the same networks: U-LiRA, RMIA and KLOM; see ``per_example``.

    RMIA is offline, with the first few retrained networks as references; the first half of the
    unseen images is its population, the second half are the ones that never were members.

    Args:
        measured: as ``quality_table``.
        retrained: the name of the networks that never saw the forget set; they have no row.
        references: networks that RMIA knows.
    """
    theirs, rows = measured[retrained], {}
    half = theirs["unseen_confidences"].shape[1] // 2

    def probabilities(of: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        forgotten, unseen = (
            expit(of[part].astype(np.float64)) for part in ("confidences", "unseen_confidences")
        )
        return forgotten, unseen[:, half:], unseen[:, :half]

    known = [part[:references] for part in probabilities(theirs)]
    for name in (name for name in measured if name != retrained):
        pair = (measured[name]["confidences"], theirs["confidences"])
        lira, distances = u_lira(*pair), klom(*pair)
        *sides, population = probabilities(measured[name])
        scores = [
            rmia(side, reference, population, known[2], offline_a=OFFLINE_A)
            for side, reference in zip(sides, known[:2], strict=True)
        ]
        rows[name] = {
            "U-LiRA AUC": lira.auc,
            "U-LiRA TPR at 1 % FPR": lira.tpr_at_1_percent_fpr,
            "RMIA AUC": roc(*scores).auc,
            "KLOM, mean": distances.mean(),
            "KLOM, 95th percentile": np.percentile(distances, 95),
        }
    return pd.DataFrame(rows).T


def confidences_of(network: nn.Module, forget: Images) -> np.ndarray:
    return logit_scaled_confidence(*predict(network, forget.sequential_batches()))


def names_in(source: Path) -> list[str]:
    """The checkpoints of a folder or a zip, ordered by the numbers in their names."""
    if not source.exists():
        raise FileNotFoundError(f"{source} is not there: name a folder or a zip of checkpoints")
    if source.is_dir():
        names = [file.name for file in source.glob("*.pth")]
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile as error:
            raise ValueError(f"{source} cannot be read as a zip ({error})") from error
    names = [n for n in names if n.endswith(".pth") and not Path(n).name.startswith(".")]
    if not names:
        raise ValueError(f"{source} holds no checkpoints (.pth)")
    return sorted(names, key=lambda n: ([int(d) for d in re.findall(r"\d+", Path(n).stem)], n))


def load_weights(model: nn.Module, source: Path, name: str) -> nn.Module:
    """Read one checkpoint of a folder or a zip into ``model``; tensors only, no pickled code."""
    try:
        if source.is_dir():
            content = (source / name).read_bytes()
        else:
            with zipfile.ZipFile(source) as archive:
                content = archive.read(name)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"{name} of {source} cannot be read as weights of this network "
            f"({type(error).__name__}: {reason})"
        ) from error
    return model
