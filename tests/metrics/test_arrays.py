"""Arrays and arguments: what has no meaning is refused by every metric, with a reason."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unlearning import metrics
from unlearning.metrics.arrays import check_samples

# Every metric with arguments that have a meaning, in numbers that bfloat16 can hold.
draw = np.random.default_rng(0)
LOGITS, OTHER_LOGITS = draw.integers(-30, 30, (2, 6, 4)) / 8
LABELS, VALUES, OTHERS = np.array([0, 0, 1, 1, 1, 2]), *draw.integers(-30, 30, (2, 4, 3)) / 8
(LOSSES, MORE_LOSSES), FRACTIONS = (
    draw.integers(0, 30, (2, 12)) / 8,
    draw.integers(1, 16, (4, 3)) / 16,
)
FLAGS = draw.integers(0, 2, (4, 3))
LABELLED = {"logits": LOGITS, "labels": LABELS}
PAIR = {"logits_a": LOGITS, "logits_b": OTHER_LOGITS}
SAMPLES = {"unlearned": VALUES, "retrained": OTHERS}
FOUR = dict.fromkeys(
    ("retain_accuracy", "forget_accuracy", "test_accuracy", "confidence_attack"), 0.5
)
GAPS = {"unlearned": FOUR, "retrained": FOUR}
ACCURACIES = ("retain_accuracy", "test_accuracy")
NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
BATCHES = [(torch.zeros(6, 1, 2, 2), torch.zeros(6, dtype=torch.long))]
SIDES = ("retain", "test", "forget")
GOOD = {
    "accuracy": LABELLED,
    "activation_distance": PAIR,
    "attack_at": {
        "threshold": VALUES,
        "unlearned": VALUES[:, 0],
        "retrained": OTHERS[:, 0],
        "delta": 0.0,
    },
    "average_gap": GAPS,
    "challenge_score": {
        "quality": 0.5,
        **{name: FRACTIONS for name in ACCURACIES},
        **{f"retrained_{name}": FRACTIONS for name in ACCURACIES},
        "seconds": 1.0,
        "retraining_seconds": 100.0,
    },
    "confidence_attack": {**{f"{side}_confidence": FRACTIONS[:, 0] for side in SIDES}, "seed": 0},
    "confusion_matrix": LABELLED,
    "cross_entropies": LABELLED,
    "forgetting_quality": {**SAMPLES, "delta": 0.0, "bins": 13, "narrow": 0.0},
    "js_divergence": PAIR,
    "klom": {
        "unlearned_margins": VALUES,
        "retrained_margins": OTHERS,
        "bins": 3,
        "clip": 9.0,
        "floor": 0.1,
    },
    "logit_scaled_confidence": LABELLED,
    "memorisation": {"correct": FLAGS, "member": 1 - FLAGS},
    "memorisation_of_set": {"trained": VALUES, "retrained": OTHERS},
    "membership_attack": {
        "forget_losses": LOSSES,
        "test_losses": MORE_LOSSES,
        "splits": 2,
        "seed": 0,
    },
    "per_class_accuracy": LABELLED,
    "relearn_time": {
        "model": NETWORK,
        "relearn": BATCHES,
        "forget": BATCHES,
        "target": 0.0,
        "max_steps": 1,
        "check_every": 1,
        "seed": 0,
    },
    "rmia": {
        "confidence": FRACTIONS,
        "reference_confidence": FRACTIONS,
        "population": FRACTIONS,
        "reference_population": FRACTIONS,
        "gamma": 1.0,
        "offline_a": 0.5,
    },
    "roc": {"members": VALUES, "others": OTHERS},
    "svc_attacks": {
        **{f"{side}_logits": LOGITS for side in SIDES},
        **{f"{side}_labels": LABELS for side in SIDES},
        "features": ["entropy"],
        "seed": 0,
    },
    "split_half_reliability": {"correct": FLAGS, "member": 1 - FLAGS},
    "tug_of_war": GAPS,
    "u_lira": {"forgotten": VALUES, "unseen": OTHERS},
    "zero_retrain_forgetting": {"logits": LOGITS, "random_logits": OTHER_LOGITS},
}

# What has none: kinds of input by kind of argument.
OF_ARRAYS = {
    "bool": lambda x: x > 0,
    "complex": lambda x: x.astype(complex),
    "objects": lambda x: x.astype(object),
    "texts": lambda x: x.astype(str),
    "a complex tensor": lambda x: torch.from_numpy(x.copy()).to(torch.complex64),
    "a bool tensor": lambda x: torch.from_numpy(x.copy()) > 0,
    "a sparse tensor": lambda x: torch.from_numpy(x.copy()).to_sparse(),
    "a tensor without values": lambda x: torch.from_numpy(x.copy()).to("meta"),
    "rows of several lengths": lambda x: [[1.0], [1.0, 2.0]],
    "seconds of time": lambda x: x.astype("m8[s]"),
    "a generator": iter,
    "none": lambda x: None,
    "a word": lambda x: "logits",
    "empty": lambda x: x[:0],
    "an empty list": lambda x: [],
    "NaN": lambda x: x * np.nan,
    "one NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape), x, np.nan),
    "infinite": lambda x: x + np.inf,
    "too large to be squared": lambda x: x + 1e200,
}
OF_LOGITS = OF_ARRAYS | {
    "one row": lambda x: x[0],
    "one class": lambda x: x[:, :1],
    "one example too few": lambda x: x[1:],
}
OF_LABELS = OF_ARRAYS | {
    "a half more": lambda x: x + 0.5,
    "9.99": lambda x: np.where(x == 2, 9.99, x),
    "1.99": lambda x: np.where(x == 2, 1.99, x),
    "a column": lambda x: x[:, None],
    "one-hot": lambda x: np.eye(4)[x],
    "one-hot, whole": lambda x: np.eye(4, dtype=int)[x],
    "one too few": lambda x: x[1:],
    "too large": lambda x: x + 2,
    "negative": lambda x: x - 1,
    "64 bits unsigned": lambda x: x.astype(np.uint64) + np.uint64(2**63),
}
OF_FRACTIONS = OF_ARRAYS | {
    "per cent": lambda x: 100 * x,
    "losses": lambda x: -4 * np.log(x),
    "negative": lambda x: -x,
}
OF_FLAGS = {kind: make for kind, make in OF_ARRAYS.items() if "bool" not in kind} | {
    "a half": lambda x: x / 2,
    "one row": lambda x: x[0],
    "one example too few": lambda x: x[:, 1:],
}
OF_LOSSES = OF_ARRAYS | {
    "negative": lambda x: x - 1,
    "a column": lambda x: x[:, None],
    "too few": lambda x: x[:9],
}
OF_GAPS = {
    "per cent": lambda x: {key: 97.2 for key in x},
    "negative": lambda x: x | {"test_accuracy": -0.1},
    "NaN": lambda x: x | {"retain_accuracy": math.nan},
    "infinite": lambda x: x | {"forget_accuracy": math.inf},
    "text": lambda x: x | {"forget_accuracy": "0.5"},
    "bool": lambda x: x | {"forget_accuracy": True},
    "several": lambda x: x | {"forget_accuracy": [0.5, 0.5]},
    "none": lambda x: x | {"forget_accuracy": None},
    "missing": lambda x: {key: x[key] for key in list(x)[1:]},
    "a list": lambda x: list(x.values()),
    "a number": lambda x: 0.5,
}


def values(*several):
    return {f"{value!r:.9}": lambda x, value=value: value for value in several}


NO_NUMBER = values(math.nan, -math.inf, "1", None, True, 1j, np.ones((9, 9)), [], {}, -1, -0.1)
NOT_WHOLE = values(2.5, 1.0, math.nan, math.inf, "3", None, True, 1j, np.ones((9, 9)), [], {}, -1)
BAD = {
    "delta": NO_NUMBER | values(1, 1.5),
    "narrow": NO_NUMBER | values(1.5),
    "target": NO_NUMBER | values(95, 1.0001),
    "gamma": NO_NUMBER | values(0, math.inf),
    "offline_a": NO_NUMBER | values(1.5),
    "clip": NO_NUMBER | values(0),
    "floor": NO_NUMBER | values(0, 1, 1e5),
    "quality": values(math.nan, "1", None, True, 1j, [], {}, -0.1, 1.1, 97.2),
    "seconds": NO_NUMBER | values(math.inf),
    "retraining_seconds": NO_NUMBER | values(0, math.inf),
    **dict.fromkeys(("bins", "splits", "check_every"), NOT_WHOLE | values(0)),
    "max_steps": NOT_WHOLE | values(-1),
    "seed": NOT_WHOLE | values(2**32),
    "features": values(
        [], ["m_entropy"], "probabilities", ["entropy", 3], 3, None, np.ones((9, 9))
    ),
    "threshold": {
        name: kind
        for name, kind in OF_ARRAYS.items()
        if "infinite" not in name and "large" not in name
    },
}
OF_SUFFIX = {
    **dict.fromkeys(("logits", "logits_a", "logits_b"), OF_LOGITS),
    "labels": OF_LABELS,
    **dict.fromkeys(("accuracy", "confidence", "population"), OF_FRACTIONS),
    "losses": OF_LOSSES,
    **dict.fromkeys(("correct", "member"), OF_FLAGS),
}


def kinds_for(metric, argument):
    if metric in ("average_gap", "tug_of_war"):
        return OF_GAPS
    if argument in BAD:
        return BAD[argument]
    found = [kinds for suffix, kinds in OF_SUFFIX.items() if argument.endswith(suffix)]
    return found[0] if found else OF_ARRAYS


CASES = [
    pytest.param(metric, argument, kind, id=f"{metric}-{argument}-{kind}")
    for metric, arguments in GOOD.items()
    for argument in arguments
    if not (metric == "relearn_time" and argument in ("model", "relearn", "forget"))
    for kind in kinds_for(metric, argument)
]


def call(metric, **changed):
    return getattr(metrics, metric)(**{**GOOD[metric], **changed})


def test_every_metric_is_tried():
    assert set(GOOD) == set(metrics.__all__) - {"ForgettingQuality", "Memorisation"}
    for metric in GOOD:
        call(metric)


@pytest.mark.parametrize("metric, argument, kind", CASES)
def test_what_has_no_meaning_is_refused_in_one_sentence_of_its_own(metric, argument, kind):
    broken = kinds_for(metric, argument)[kind](GOOD[metric][argument])
    with pytest.raises(ValueError) as refusal:
        call(metric, **{argument: broken})
    assert Path(refusal.traceback[-1].path).parent.name in ("core", "metrics")
    assert "\n" not in str(refusal.value)


IN_OTHER_FORMS = {
    "lists": np.ndarray.tolist,
    "a list of arrays": list,
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "another byte order": lambda x: x.astype(">f8"),
    "a tensor": lambda x: torch.from_numpy(x.copy()),
    "a bfloat16 tensor": lambda x: torch.from_numpy(x.copy()).bfloat16(),
    "a float16 tensor": lambda x: torch.from_numpy(x.copy()).half(),
    "a tensor with a gradient": lambda x: torch.tensor(x, dtype=torch.float32, requires_grad=True),
    "a list of such tensors": lambda x: list(torch.tensor(x, dtype=torch.float32).requires_grad_()),
}
WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
AS_LABELS = {
    **{str(kind): lambda x, kind=kind: torch.from_numpy(x).to(kind) for kind in WHOLE},
    **{kind: lambda x, kind=kind: x.astype(kind) for kind in ("u1", "i2", "u4", "u8", "i4")},
}
ARRAYS = [
    (metric, argument)
    for metric, arguments in GOOD.items()
    for argument, value in arguments.items()
    if isinstance(value, np.ndarray)
]


@pytest.mark.parametrize("form", IN_OTHER_FORMS | AS_LABELS)
def test_arrays_and_tensors_of_every_type_of_number_give_the_same(form):
    for metric, argument in ARRAYS:
        if form in AS_LABELS and "labels" not in argument:
            continue
        given = (IN_OTHER_FORMS | AS_LABELS)[form](GOOD[metric][argument])
        np.testing.assert_equal(call(metric, **{argument: given}), call(metric))


def test_integers_are_numbers_too():
    for metric, argument in ARRAYS:
        rounded = np.ceil(GOOD[metric][argument])
        wanted = call(metric, **{argument: rounded})
        np.testing.assert_equal(call(metric, **{argument: rounded.astype(np.int32)}), wanted)


LABELLED_METRICS = (
    "accuracy confusion_matrix per_class_accuracy cross_entropies logit_scaled_confidence"
)
PAIR_METRICS = "js_divergence activation_distance zero_retrain_forgetting"
SAMPLE_METRICS = "forgetting_quality u_lira klom memorisation_of_set"
WORDS = [
    (LABELLED_METRICS, (LOGITS * np.nan, LABELS), "NaN or infinite"),
    (LABELLED_METRICS, (LOGITS[:0], LABELS[:0]), r"S at least 1, not \(0, 4\)"),
    (LABELLED_METRICS, (LOGITS[:, :1], LABELS * 0), r"K at least 2.* not \(6, 1\)"),
    (LABELLED_METRICS, (LOGITS, LABELS[:5]), r"6 (rows|examples) .* not \(5,\)"),
    (LABELLED_METRICS, (LOGITS, LABELS[:, None]), r"6 (rows|examples) .* not \(6, 1\)"),
    (LABELLED_METRICS, (LOGITS, LABELS + 0.5), "labels must be whole numbers, .* not 0.5"),
    (LABELLED_METRICS, (LOGITS, LABELS == 1), "labels must be integers or floats, not .* bool"),
    (LABELLED_METRICS, (LOGITS, LABELS + 2), "from 2 to 4, but there are 4 classes"),
    (LABELLED_METRICS, (LOGITS, LABELS - 1), "from -1 to 1, but there are 4 classes"),
    ("accuracy cross_entropies", (LOGITS[None], LABELS), r"not \(1, 6, 4\)"),
    (PAIR_METRICS, (LOGITS, LOGITS * np.nan), "NaN or infinite"),
    (PAIR_METRICS, (LOGITS, LOGITS[:, :3]), "same examples"),
    (SAMPLE_METRICS, (VALUES, VALUES[:, :2]), r"same examples .* \(4, 3\) and \(4, 2\)"),
    (SAMPLE_METRICS, (VALUES[0], VALUES[0]), r"networks in rows .* not \(3,\) and \(3,\)"),
    (SAMPLE_METRICS, (VALUES[:, :0], VALUES[:, :0]), r"no examples: .* \(4, 0\) and"),
    (SAMPLE_METRICS, (VALUES, VALUES[:0]), r"at least [123] .* not \(4, 3\) and \(0, 3\)"),
    (SAMPLE_METRICS, (VALUES, VALUES + np.inf), "NaN or infinite"),
    ("forgetting_quality", (VALUES, VALUES[:1]), "at least 2"),
    ("u_lira", (VALUES[:2], VALUES), "at least 3"),
    ("membership_attack", (np.ones(50), np.ones(9)), r"test_losses .* at least 10, not \(9,\)"),
    ("membership_attack", (np.ones(50), np.ones((20, 2))), r"not \(20, 2\)"),
    ("membership_attack", (np.ones(50), np.ones(50) + np.inf), "NaN or infinite"),
    ("membership_attack", (np.ones(50), -np.ones(50)), "cross-entropies, at least 0, not -1"),
    ("confidence_attack", (FRACTIONS[0], LOSSES + 1, LOSSES), r"test_confidence .* \[0, 1\], not"),
]


@pytest.mark.parametrize("names, arrays, words", WORDS)
def test_a_refusal_says_what_was_wrong(names, arrays, words):
    for name in names.split():
        with pytest.raises(ValueError, match=words):
            getattr(metrics, name)(*arrays)


def test_tensors_become_float64_copies():
    tensors = torch.ones(4, 3, requires_grad=True), torch.ones(5, 3, dtype=torch.float64)
    for found, tensor in zip(check_samples(*tensors), tensors, strict=True):
        assert found.dtype == np.float64 and found.shape == tensor.shape
        found += 1
        assert (tensor == 1).all()
