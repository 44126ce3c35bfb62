"""core.archives: what a zip announces is checked before it is unpacked."""

import io
import zipfile

import numpy as np
import pytest

from unlearning.core.archives import read_npz


def member(array, **stated):
    """An array as npz files hold it, or with another shape or type in its header."""
    file = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array) | stated
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


def write(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def test_arrays_are_those_that_numpy_reads(tmp_path):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3).T,
        "text": np.array("run"),
        "none": np.zeros((0, 3)),
    }
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert list(read_npz(tmp_path / "a.npz", ["text"])) == ["text"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (member(np.zeros(3), shape=(10**13,)), "does not hold the float64 of shape"),
        (member(np.zeros(3), shape=(2,)), "does not hold the float64 of shape"),
        (member(np.zeros(3), descr="|O"), "does not hold the object"),
        (b"hello", "magic"),
        (b"\x93NUMPY\x07\x00" + bytes(50), "of another format"),
    ],
)
def test_array_that_is_not_what_its_header_says_is_refused(tmp_path, content, words):
    write(tmp_path / "a.npz", a=content)
    with pytest.raises(ValueError, match=words):
        read_npz(tmp_path / "a.npz")


def test_sizes_that_cannot_be_or_are_too_much_are_refused_unread(tmp_path):
    path = tmp_path / "a.npz"
    write(path, a=member(np.zeros(10**6)))
    with pytest.raises(ValueError, match=r"takes 8,000,128 bytes unpacked, more than the 5 exp"):
        read_npz(path, most=5)
    content, stated = path.read_bytes(), (8_000_128).to_bytes(4, "little")
    assert content.count(stated) == 2
    path.write_bytes(content.replace(stated, (2**32 - 2).to_bytes(4, "little")))
    with pytest.raises(ValueError, match=r"cannot take 4,294,967,294 bytes unpacked"):
        read_npz(path)
