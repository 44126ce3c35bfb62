"""The challenge's layout is read as it is, and what does not fit is named."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from unlearning.challenge import load_challenge


def test_images_labels_and_records_are_those_of_the_files(faces):
    found = load_challenge(faces)
    for part, records in found.records.items():
        images = getattr(found, part)
        assert images.images.shape == (len(images), 3, 8, 8) and images.num_classes == 10
        paths = [f"images/{name.replace('-', '/')}.png" for name in records.image_id]
        assert paths == sorted(paths)  # as the organisers' notebook orders them
        pixels = np.stack([np.asarray(Image.open(faces / path)) for path in paths])
        np.testing.assert_array_equal(images.images.numpy(), pixels.transpose(0, 3, 1, 2))
        written = pd.read_csv(faces / f"{part}.csv").set_index("image_id").loc[records.image_id]
        assert images.labels.tolist() == written.age_group.tolist()
        pd.testing.assert_frame_equal(records, written.reset_index())
    assert [*map(len, found[:4])] == [40, 12, 15, 25] and found.split == found[:2]
    pixels, _ = next(iter(found.forget.batches(100)))  # up to 255, unless normalised
    torch.testing.assert_close(pixels, found.forget.images.float())
    normalised = load_challenge(faces, mean=(0.5,), std=(0.25,)).forget
    wanted = (normalised.images / 255 - 0.5) / 0.25
    torch.testing.assert_close(next(iter(normalised.batches(100)))[0], wanted)


def test_missing_sets_are_none_and_grey_images_have_three_channels(faces):
    (faces / "test.csv").unlink()
    first = pd.read_csv(faces / "validation.csv").image_id.min()
    file = faces / f"images/{first.replace('-', '/')}.png"
    Image.fromarray(np.full((8, 8), 7, dtype=np.uint8)).save(file)
    found = load_challenge(faces)
    assert found.test is None and (found.validation.images[0] == 7).all()


def test_a_csv_that_does_not_fit_is_refused(faces):
    retain, rows = (pd.read_csv(faces / f"{part}.csv") for part in ("retain", "forget"))
    for wrong, words in (
        (pd.concat([rows, retain[:1]]), rf"{retain.image_id[0]} .* retain.csv and in forget.csv"),
        (pd.concat([rows, rows[:1]]), "forget.csv and in forget.csv"),
        (rows.drop(columns="age_group"), "forget.csv.*it has no age_group"),
        (rows[:0], "it has no rows"),
        (rows.assign(age_group=10), "has age group 10, but there are 10"),
        (rows.assign(age_group=2.5), "has age group 2.5"),
    ):
        wrong.to_csv(faces / "forget.csv", index=False)
        with pytest.raises(ValueError, match=words):
            load_challenge(faces)
    (faces / "forget.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"forget\.csv does not exist"):
        load_challenge(faces)


def test_an_image_that_is_broken_or_missing_is_named(faces):
    file = next((faces / "images" / "11").glob("*.png"))
    Image.new("RGB", (8, 9)).save(file)
    with pytest.raises(ValueError, match=rf"{file.name} has height and width \(9, 8\), but"):
        load_challenge(faces)
    file.write_bytes(next((faces / "images" / "10").glob("*.png")).read_bytes()[:90])
    with pytest.raises(ValueError, match=f"{file.name} cannot be read as an image"):
        load_challenge(faces)
    (faces / "images" / "9").rename(faces / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"\d+ of the 40 images .*retain\.csv .*images/9/"):
        load_challenge(faces)


def test_an_image_beyond_all_bounds_is_refused_undecoded(faces, monkeypatch):
    file = next((faces / "images" / "11").glob("*.png"))
    Image.new("1", (2049, 2048)).save(file)
    for pixels in (None, 3_000_000, 1_000_000):  # the last two: Pillow's warning, and its error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
        with pytest.raises(ValueError, match=f"{file.name} cannot be read as an image"):
            load_challenge(faces)


@pytest.mark.parametrize(
    "name", ["1-../../../../outside", "..-a", "1-/etc/x", "/-x", "1-a\\b", "1-", "-1", "12", "1-.."]
)
def test_a_name_that_leads_out_of_the_images_is_refused(faces, name):
    rows = pd.read_csv(faces / "forget.csv")
    rows.loc[3, "image_id"] = name
    rows.to_csv(faces / "forget.csv", index=False)
    Image.new("RGB", (8, 8)).save(faces.parent / "outside.png")
    with pytest.raises(ValueError, match=r"forget\.csv: image_id .* must be a folder and a name"):
        load_challenge(faces)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_a_csv_in_another_encoding_is_one_sentence(faces, encoding):
    text = (faces / "forget.csv").read_text()
    (faces / "forget.csv").write_text(text.replace("age_group", "Größe,age_group"), encoding)
    with pytest.raises(
        ValueError, match=r"forget\.csv (cannot be read as a csv|must have the col)"
    ):
        load_challenge(faces)
