"""The faces of the challenge, or any data in their layout: csv files and a folder of images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ..core.files import is_plain_name, open_to_read
from ..core.images import Images
from ..core.own_images import is_deep
from ..data import channels_first
from ..splitting import Split

PARTS = ("retain", "forget", "validation", "test")
NEEDED = ("retain", "forget")
COLUMNS = ("image_id", "age_group")
LARGEST = 2048 * 2048  # pixels of an image; a face has 32 x 32


class Challenge(NamedTuple):
    """The challenge's sets; ``validation`` and ``test`` are None if their csv is missing.

    ``records`` has one table per set, the csv file's, in the order of the images.
    """

    retain: Images
    forget: Images
    validation: Images | None
    test: Images | None
    records: dict[str, pd.DataFrame]

    @property
    def split(self) -> Split:
        """What is retained and what is to be forgotten, as ``measure`` takes it."""
        return Split(self.retain, self.forget)


def load_challenge(
    folder: Path | str,
    *,
    num_classes: int = 10,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1 / 255,),
) -> Challenge:
    """Read the challenge's data, or other data in the same layout.

    The folder holds retain.csv and forget.csv, optionally validation.csv and test.csv, with the
    columns image_id and age_group. Image "12-345" is the file images/12/345.png. Images are sorted
    by path, as in the organisers' notebook, and kept as uint8 (N, 3, H, W).

    Args:
        folder: with the csv files and images/.
        num_classes: number of age groups.
        mean, std: of the normalisation. By default there is none and pixels range from 0 to 255,
            which is how the organisers' notebook feeds the challenge's original_model.pth.

    Raises:
        FileNotFoundError: if retain.csv, forget.csv or an image is missing.
        OSError: if one of them cannot be opened.
        ValueError: if a csv cannot be read or lacks columns or rows, an age group does not exist,
            an image's name leads out of its folder, an image cannot be read, is too large or has
            another size, or an image is listed twice.
    """
    folder = Path(folder)
    present = [part for part in PARTS if part in NEEDED or (folder / f"{part}.csv").exists()]
    records = {part: _read_records(folder / f"{part}.csv", num_classes) for part in present}
    _check_overlap(records)
    classes = tuple(f"age group {group}" for group in range(num_classes))
    sets = {}
    for part, rows in records.items():
        files = [_image_file(image_id) for image_id in rows.image_id]
        images, labels = _decode(part, folder, files), torch.tensor(rows.age_group.tolist())
        sets[part] = Images(images, labels, classes, mean, std, mirror=True)
    return Challenge(*(sets.get(part) for part in PARTS), records)


def _parts(image_id: str) -> tuple[str, str]:
    folder, _, name = image_id.partition("-")
    return folder, name


def _image_file(image_id: str) -> str:
    return "images/{}/{}.png".format(*_parts(image_id))


def _read_records(file: Path, num_classes: int) -> pd.DataFrame:
    """The rows of a csv, sorted by their images' paths."""
    if not file.exists():
        raise FileNotFoundError(
            f"{file} does not exist: the folder must hold retain.csv, forget.csv and images/ (the "
            "faces of the challenge itself were never released; its download is an empty.txt)"
        )
    try:
        with open_to_read(file) as opened:
            rows = pd.read_csv(opened, dtype={"image_id": str})
    except (pd.errors.ParserError, UnicodeError) as error:
        raise ValueError(
            f"{file} cannot be read as a csv ({str(error).strip()}): save it as UTF-8"
        ) from error
    except pd.errors.EmptyDataError:
        rows = pd.DataFrame()
    missing = [name for name in COLUMNS if name not in rows]
    if missing or len(rows) == 0:
        raise ValueError(
            f"{file} must have the columns image_id and age_group and one row per image: it has no "
            + (missing[0] if missing else "rows")
        )
    groups = pd.to_numeric(rows.age_group, errors="coerce")
    wrong = ~groups.isin(range(num_classes)) | rows.image_id.isna()
    if wrong.any():
        row = rows[wrong].iloc[0]
        raise ValueError(
            f"{file}: image {row.image_id} has age group {row.age_group}, but there are "
            f"{num_classes}, numbered from 0"
        )
    astray = [name for name in rows.image_id if not all(map(is_plain_name, _parts(name)))]
    if astray:
        raise ValueError(
            f"{file}: image_id {astray[0]!r} must be a folder and a name, as 12-345 is, which lead "
            "nowhere else"
        )
    rows = rows.assign(age_group=groups.astype(np.int64))
    return rows.sort_values("image_id", ignore_index=True)  # ids sort like paths


def _check_overlap(records: dict[str, pd.DataFrame]) -> None:
    """Refuse an image in two sets, or twice in one."""
    ids = pd.concat({part: rows.image_id for part, rows in records.items()})
    twice = ids[ids.duplicated(keep=False)]
    if len(twice):
        places = twice[twice == twice.iloc[0]].index.get_level_values(0)
        raise ValueError(
            f"image {twice.iloc[0]} is listed in {places[0]}.csv and in {places[1]}.csv "
            f"({twice.nunique()} images are listed twice): keep each in one place"
        )


def _decode(part: str, folder: Path, files: Sequence[str]) -> Tensor:
    """PNG files as one uint8 tensor (N, 3, H, W)."""
    missing = [file for file in files if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(files)} images listed in {folder / part}.csv are missing, "
            f"the first is {folder / missing[0]}: images/ must be next to the csv files"
        )
    images = None
    for place, file in enumerate(files):
        pixels = _read_pixels(folder / file)
        if images is None:
            images = np.empty((len(files), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise ValueError(
                f"{folder / file} has height and width {pixels.shape[:2]}, but the first image, "
                f"{files[0]}, has {images.shape[1:3]}: all images must have one size"
            )
        images[place] = pixels
    return channels_first(images)


def _read_pixels(file: Path) -> np.ndarray:
    with open_to_read(file) as opened, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(opened) as image:
                if image.width * image.height > LARGEST:
                    raise ValueError(f"{image.width} x {image.height} pixels are too many")
                if is_deep(image):
                    raise ValueError("it has more than 8 bits per channel")
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # of a damaged file, Pillow raises errors of many kinds
            raise ValueError(f"{file} cannot be read as an image ({error})") from error
