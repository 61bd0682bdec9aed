# SPDX-License-Identifier: Apache-2.0
"""MNIST's files, plain and gzipped; what is missing or damaged is named."""

import gzip
import struct

import numpy as np
import pytest

from mixq_jax.data import mnist
from mixq_jax.data.annotations import DataError


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def write(folder, images: np.ndarray, labels: np.ndarray, zipped: bool, split="train") -> None:
    folder.mkdir(exist_ok=True)
    for name, array in zip(mnist.FILES[split], (images, labels), strict=True):
        content = idx(array)
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


IMAGES = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
LABELS = np.array([7, 2, 0, 9], np.uint8)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inner", [".", "mnist"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_images_get_a_margin(tmp_path, zipped, inner, split):
    write(tmp_path / inner, IMAGES, LABELS, zipped, split)
    data = mnist.load(tmp_path, split)
    assert data.images.shape == (4, 32, 32, 1)
    assert np.array_equal(data.images[:, 2:30, 2:30, 0], IMAGES)
    assert data.images.sum(dtype=np.int64) == IMAGES.sum(dtype=np.int64)
    assert data.labels.tolist() == LABELS.tolist()


def test_nothing_there_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte \(or \.gz\) is missing; get the"):
        mnist.load(tmp_path, "train")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:3], r"images are \(4, 28, 28\) and labels \(3,\)"),
        (IMAGES[0], LABELS, r"images are \(28, 28\)"),
        (IMAGES, LABELS + 1, r"a label is 10, must be 0\.\.9"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, images, labels, message):
    write(tmp_path, images, labels, False)
    with pytest.raises(DataError, match=message):
        mnist.load(tmp_path, "train")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: b"",
        lambda content: content[:5],
        lambda content: b"\x00\x00\x0d\x03" + content[4:],
        lambda content: content + b"\x00",
    ],
)
def test_damaged_files_are_named(tmp_path, damage):
    write(tmp_path, IMAGES, LABELS, False)
    path = tmp_path / mnist.FILES["train"][0]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"^{path}: is no IDX file of bytes, or cut short"):
        mnist.load(tmp_path, "train")


def test_a_damaged_archive_is_named(tmp_path):
    write(tmp_path, IMAGES, LABELS, True)
    path = tmp_path / f"{mnist.FILES['train'][0]}.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"^{path}: damaged"):
        mnist.load(tmp_path, "train")
