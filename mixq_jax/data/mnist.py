# SPDX-License-Identifier: Apache-2.0
"""MNIST from its four IDX files, plain or gzipped."""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from mixq_jax.data.annotations import DataError
from mixq_jax.data.labelled import Labelled, sample_rows

CLASSES = tuple(map(str, range(10)))
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 8  # third byte of the magic number; the fourth is the number of axes
SIDE = 28
MARGIN = 2  # 28 -> 32 pixels, so that the map can be halved three times and more
HOW_TO_GET = (
    "get the four files train-/t10k-images/labels-idx?-ubyte.gz, for example from "
    "https://storage.googleapis.com/cvdf-datasets/mnist"
)


def load(folder: Path | str, split: Literal["train", "test"], count: int | None = None) -> Labelled:
    """Read one split of the set in `folder` (or its folder mnist): 32x32 images, black around.

    At most `count` images, those of `sample_rows`.

    Raises DataError that says how to get the files where there are none, and for damaged ones.
    """
    folder = Path(folder)
    folder = folder / "mnist" if (folder / "mnist").is_dir() else folder
    images, labels = (_read(folder, name) for name in FILES[split])
    pairs = images.shape == (len(labels), SIDE, SIDE) and labels.ndim == 1
    if not pairs or not len(images):
        raise DataError(
            f"{folder}: {split} images are {images.shape} and labels {labels.shape}, not "
            f"(N, {SIDE}, {SIDE}) and (N,); get them again"
        )
    if labels.max() >= len(CLASSES):
        raise DataError(f"{folder}: a label is {labels.max()}, must be 0..9; get the files again")
    rows = sample_rows(len(labels), count)
    padded = np.pad(images[rows], ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    return Labelled(padded[..., None], labels[rows].astype(np.int32), CLASSES)


def _read(folder: Path, name: str) -> np.ndarray:
    """Return the array of an IDX file: magic 0 0 type axes, sizes as big-endian int32, values."""
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: {name} (or .gz) is missing; {HOW_TO_GET}")
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged ({error}); get it again") from error
    axes = content[3] if len(content) > 3 else 0
    head, values = content[: 4 + 4 * axes], content[4 + 4 * axes :]
    sizes = [int.from_bytes(head[at : at + 4], "big") for at in range(4, len(head), 4)]
    whole = len(head) == 4 + 4 * axes and len(values) == prod(sizes)
    if head[:3] != bytes((0, 0, UNSIGNED_BYTE)) or not whole:
        raise DataError(f"{path}: is no IDX file of bytes, or cut short; get it again")
    return np.frombuffer(values, np.uint8).reshape(sizes)
