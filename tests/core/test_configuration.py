"""core.configuration: digests, and folders that know what they hold."""

import json

import numpy as np
import pytest

from unlearning.core.configuration import as_json, check_or_write_config, difference, digest_of


def test_as_json_is_what_a_file_gives_back():
    assert as_json({"layers": (1, 2), "nothing": None}) == {"layers": [1, 2], "nothing": None}
    with pytest.raises(ValueError, match=r"numbers, texts, lists and dicts .*ndarray"):
        as_json({"lr": np.zeros(2)})


@pytest.mark.parametrize(
    ("given", "plain"),
    [(np.int64(3), 3), (np.float32(0.5), 0.5), (np.float64(0.1), 0.1), (np.True_, True)],
)
def test_numpy_s_numbers_are_the_numbers_that_they_are(given, plain):
    assert as_json({"a": [given]}) == {"a": [plain]}
    assert digest_of({"a": given}) == digest_of({"a": plain})


@pytest.mark.parametrize("number", [float("nan"), float("-inf"), np.float32("nan")])
def test_what_differs_from_itself_or_that_json_lacks_is_refused(number):
    for use in (as_json, digest_of):
        with pytest.raises(ValueError, match="must consist of finite numbers"):
            use({"a": [number]})


def test_digest_depends_on_the_content_only():
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
    assert digest_of({}) == "44136fa355b3678a"  # sha256sum of {}
    one, other = ({"run": {"lr": lr, "epochs": 3}} for lr in (0.1, 0.2))
    assert difference(one, other) == "results made with lr=0.1, not 0.2"


def test_folder_is_of_one_configuration(tmp_path):
    folder = tmp_path / "new"
    check_or_write_config(folder, {"lr": 0.1})
    assert json.loads((folder / "configuration.json").read_text()) == {"lr": 0.1}
    check_or_write_config(folder, {"lr": 0.1})
    with pytest.raises(ValueError, match=r"made with lr=0\.1, not 0\.2: choose another folder"):
        check_or_write_config(folder, {"lr": 0.2})
    (folder / "configuration.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot be read .* so the contents of"):
        check_or_write_config(folder, {"lr": 0.1})
    (folder / "configuration.json").rename(folder / "seeds-0.npz")
    with pytest.raises(ValueError, match=r"holds seeds-0\.npz but no configuration\.json"):
        check_or_write_config(folder, {})
