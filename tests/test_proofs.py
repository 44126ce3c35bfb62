"""What a proof costs and does not hide: the measurements of notebook 10."""

import numpy as np
import pandas as pd
import pytest
import torch

from unlearning import build, proofs, report
from unlearning.core.heads import fit_head
from unlearning.core.randomness import order_of
from unlearning.methods import train_shards
from unlearning.metrics import accuracy


def test_costs_of_an_ensemble_are_its_own(tiny):
    options = {"model": "mlp", "epochs": 4, "lr": 0.05, "batch_size": 8, "shards": 4, "slices": 3}
    order = order_of(96, 5)
    row = proofs.sisa_costs(tiny, tiny, order, [1, 8], **options, seed=2)
    sisa = train_shards(tiny, **options, seed=2)
    assert row["test_accuracy"] == accuracy(*sisa.predict(tiny))
    assert row["forget 1"] == pytest.approx(np.mean([sisa.share([i]) for i in order]), abs=0.01)
    assert row["forget 8"] == pytest.approx(np.mean([sisa.share(o) for o in order.split(8)]))
    assert row["request_seconds"] > 0 and row["seconds"] > 0
    numbers = report.table([row, {**row, "seed": 3}])
    assert numbers.loc["4 shards", ("forget 8", "mean")] == row["forget 8"]
    expected = proofs.expected_costs([1, 4], [1, 8], 3)
    assert expected.loc[4, "forget 1"] == pytest.approx(7 / 9 / 4)
    assert expected.loc[1, "forget 1"] == pytest.approx(7 / 9)


@pytest.fixture(name="data")
def make_data(tiny):
    """The images as rows of norm 1, and their labels."""
    torch.manual_seed(0)
    features, labels = proofs.unit_features(build("mlp", 4, 1, 8), tiny)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(96).double())
    return features, labels


def test_a_certificate_covers_removals_up_to_its_budget(data):
    order, options = order_of(96, 1), {"sigma": 2.0, "seed": 3, "lam": 0.1}
    row, found = proofs.certificate_costs(data, data, order, **options)
    assert row["test_accuracy"] == accuracy(fit_head(*data, **options).scores(data[0]), data[1])
    assert (found["gradient"] <= found["bound"]).all() and found["bound"].is_monotonic_increasing
    assert found["budget"].round(9).nunique() == 1
    covered = found["bound"] <= found["budget"]
    assert row["removals"] == covered.sum() == len(found) - 1 > 0 and not covered.iloc[-1]
    more, _ = proofs.certificate_costs(data, data, order, epsilon=2.0, **options)
    assert more["removals"] > row["removals"]
    none, found = proofs.certificate_costs(data, data, order, **{**options, "sigma": 0.0})
    assert none["removals"] == 0 and len(found) == 1
    all_of_three, _ = proofs.certificate_costs(data, data, order[:3], epsilon=2.0, **options)
    assert all_of_three["removals"] == min(3, more["removals"])


def test_a_removed_image_is_found_in_the_difference_of_two_heads(tiny):
    one, other = tiny.select(range(0, 96, 2)), tiny.select(range(1, 96, 2))
    table, pictures = proofs.reconstructions(one, other, [3, 7])
    assert table["hessian"].tolist() == ["removed"] * 2 + ["exact"] * 2 + ["public"] * 2
    assert table["position"].tolist() == [3, 7] * 3
    assert table["cosine"][:4].tolist() == pytest.approx([1] * 4)
    assert pictures.labels.tolist() == one.labels[[3, 7]].tolist() * 3
    shown = pictures.images.double().flatten(1)
    assert torch.equal(pictures.images[:2], one.images[[3, 7]])
    true = shown[:2] * (255 / shown[:2].max(1, keepdim=True).values)
    assert float((shown[2:4] - true).abs().max()) <= 1  # the brightest pixel becomes white
    for found, wanted, cosine in zip(shown[4:], shown[:2], table["cosine"][4:], strict=True):
        assert 0.5 < cosine < 1
        clipped = float(torch.nn.functional.cosine_similarity(found, wanted, 0))
        assert clipped > cosine - 0.01
    assert isinstance(table, pd.DataFrame) and {"device", "torch"} <= {*table}


def test_noise_does_not_hide_an_example_from_who_has_both_heads(data):
    head = fit_head(*data, sigma=2.0, lam=0.1)
    for position in (0, 50):
        assert proofs.reconstruct(head, *data, position)[1] == pytest.approx(1)
