"""The score is what a direct computation gives."""

import io
import os
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import challenge
from unlearning.challenge import score_arrays, score_submission, scoring
from unlearning.core.loop import Timed
from unlearning.measurement import Measurement, measure_seeds
from unlearning.metrics import forgetting_quality


@pytest.fixture
def sets(faces):
    """Arguments that the functions of a submission share."""
    found = challenge.load_challenge(faces)
    parts = {part: getattr(found, part) for part in ("retain", "forget", "test")}
    return {**parts, "device": "cpu", "n_jobs": 1}


def by_hand(models, images):
    """f = log p_y - log(1 - p_y) in float64, and accuracies: one network and example at a time."""
    confidences, right = [], []
    for model in models:
        with torch.inference_mode():
            p = [model(x[None].float())[0].double().softmax(0) for x in images.images]
        labelled = list(zip(p, images.labels, strict=True))
        confidences.append([float(row[y].log() - (1 - row[y]).log()) for row, y in labelled])
        right.append([int(row.argmax()) == int(y) for row, y in labelled])
    return np.array(confidences), np.mean(right, axis=1)


def test_the_score_is_what_a_direct_computation_gives(tmp_path, sets, perturbed):
    folders, models = {}, {}
    for kind, count, seed in (("unlearned", 8, 0), ("retrained", 7, 100), ("second", 7, 200)):
        folders[kind], models[kind] = tmp_path / kind, [perturbed(seed + i) for i in range(count)]
        options = {"count": count, "seed": seed, "name": f"{kind}_checkpoint", "n_jobs": 1}
        challenge.write_checkpoints(perturbed, perturbed(), folders[kind], **options)
    more = {"second_retrained": folders["second"], "original": perturbed()}
    found = score_submission(folders["unlearned"], folders["retrained"], perturbed, **sets, **more)
    f = {kind: by_hand(models[kind], sets["forget"])[0] for kind in models}
    retain, test = (
        [by_hand(models[kind], sets[part])[1].mean() for kind in ("unlearned", "retrained")]
        for part in ("retain", "test")
    )
    ratios = [retain[0] / retain[1], test[0] / test[1]]
    quality = forgetting_quality(f["unlearned"], f["retrained"]).quality
    assert quality > 0.1 and ratios[0] != 1 != ratios[1]  # so that each factor counts
    assert found.quality == pytest.approx(quality)
    accuracies = found.retain_accuracy, found.retrained_test_accuracy
    assert accuracies == pytest.approx((retain[0], test[1]))
    assert [found.retain_ratio, found.test_ratio] == pytest.approx(ratios)
    assert found.score == pytest.approx(quality * ratios[0] * ratios[1])
    ceiling = forgetting_quality(f["second"], f["retrained"]).quality
    assert found.ceiling == pytest.approx(ceiling) and ceiling > 0.1
    assert found.floor == 0  # copies of one network can be told from any sample
    assert found.details.eps.shape == (len(sets["forget"]),)

    path = challenge.zip_submission(folders["unlearned"], tmp_path / "submission.zip", count=8)
    theirs = challenge.measure_checkpoints(folders["retrained"], perturbed, **sets)
    sets["retraining_seconds"] = 100
    from_zip = score_submission(path, theirs, perturbed, **sets, seconds=19)
    assert from_zip.score == found.score and from_zip.ceiling is from_zip.floor is None
    slow = score_submission(path, theirs, perturbed, **sets, seconds=21)
    assert slow.score == 0 and slow.quality == found.quality


def test_checkpoints_are_read_in_the_order_of_their_numbers(
    written, sets, tmp_path, perturbed, monkeypatch
):
    """Also from a zip with folders, as the organisers' notebook zips them, and by two processes."""
    monkeypatch.setattr(scoring, "READ_TOGETHER", 5)
    path = tmp_path / "theirs.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(written.glob("*.pth")):  # 0, 1, 10, 11, 2, ...
            archive.write(file, f"kaggle/tmp/{file.name}")
    models = [perturbed(seed) for seed in range(12)]
    for source, n_jobs in ((written, 2), (path, 1)):
        found = challenge.measure_checkpoints(source, perturbed, **{**sets, "n_jobs": n_jobs})
        np.testing.assert_allclose(found["confidences"], by_hand(models, sets["forget"])[0], 1e-4)
        unseen = by_hand(models, sets["test"])[0]
        np.testing.assert_allclose(found["unseen_confidences"], unseen, rtol=1e-3, atol=1e-3)


def test_checkpoints_that_cannot_be_read_are_named(written, sets, faces, perturbed):
    class Code:
        def __reduce__(self):
            return os.getpid, ()

    content = io.BytesIO()
    torch.save({"weight": Code()}, content)
    (written / "unlearned_checkpoint_3.pth").write_bytes(content.getvalue())
    for source, build, error, sentence in (
        (faces / "nowhere", perturbed, FileNotFoundError, "nowhere does not exist"),
        (faces, perturbed, ValueError, "holds no checkpoints"),
        (faces / "retain.csv", perturbed, ValueError, "cannot be read as a zip"),
        (written, lambda: nn.Linear(2, 2), ValueError, r"_0\.pth of .* network \(1\.weight is of"),
        (written, perturbed, ValueError, r"checkpoint_3\.pth of .* \(UnpicklingError"),
    ):
        with pytest.raises(error, match=sentence):
            challenge.measure_checkpoints(source, build, **sets)


@pytest.mark.parametrize("where", ["in a folder", "in a zip", "as a zip's member"])
def test_a_checkpoint_that_unpacks_to_far_more_than_the_network_is_refused_unread(
    tmp_path, sets, perturbed, where
):
    source, much = tmp_path / "source", bytes(40_000_000)
    source.mkdir()
    with zipfile.ZipFile(source / "a_0.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", much)
    if where != "in a folder":
        content = (source / "a_0.pth").read_bytes() if where == "in a zip" else much
        source = tmp_path / "source.zip"
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a_0.pth", content)
    with pytest.raises(
        ValueError, match=r"a_0\.pth of .* takes 40,000,000 bytes unpacked, more th"
    ):
        challenge.measure_checkpoints(source, perturbed, **sets)


def test_a_damaged_checkpoint_is_not_measured(written, sets, perturbed):
    file = written / "unlearned_checkpoint_3.pth"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint_3\.pth of .* is damaged"):
        challenge.measure_checkpoints(written, perturbed, **sets)


def test_every_seed_is_reduced_to_what_the_score_needs(faces, perturbed):
    sets, models = challenge.load_challenge(faces), {seed: perturbed(seed) for seed in (5, 6)}
    make, split = lambda seed: Timed(models[seed], 2.0 + seed), lambda seed: sets.split
    found = measure_seeds(make, split, sets.test, keep=score_arrays, attacks=False)([5, 6])
    for part in ("retain", "forget", "test"):
        accuracies = by_hand(models.values(), getattr(sets, part))[1]
        np.testing.assert_allclose(found[f"{part}_accuracy"], accuracies)
    confidences, _ = by_hand(models.values(), sets.forget)
    np.testing.assert_allclose(found["confidences"], confidences, rtol=1e-4)
    assert found["seconds"].tolist() == [7, 8]


def test_unseen_confidences_are_the_logits_of_200_probabilities_and_finite():
    p = np.linspace(0.01, 0.99, 300)
    losses = np.concatenate([[0.0, 1e-30, 700], -np.log(p)])
    numbers = dict.fromkeys(("retain_accuracy", "forget_accuracy", "test_accuracy"), 0.5)
    found = score_arrays(Measurement(numbers, np.zeros((1, 2)), np.zeros(1, int), losses))
    unseen = found["unseen_confidences"]
    assert unseen.dtype == np.float16 and unseen.shape == (200,) and np.isfinite(unseen).all()
    assert unseen[0] > 700 and unseen[1] == pytest.approx(30 * np.log(10), rel=1e-3)
    assert unseen[2] == -700
    np.testing.assert_allclose(unseen[3:], np.log(p / (1 - p))[:197], atol=5e-3)
