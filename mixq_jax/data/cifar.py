# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 as its authors publish it (python or binary version), or an archive of JPEG files."""

import io
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mixq_jax.data.annotations import DataError
from mixq_jax.data.labelled import Labelled
from mixq_jax.plain_pickle import ForeignGlobalError, PlainUnpickler

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
SIDE = 32
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")  # as the archives unpack
TRAIN_BATCHES, TEST_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6)), ("test_batch",)
RECORD_BYTES = 1 + 3 * SIDE * SIDE  # of the binary version: label, then red, green, blue planes
JPEG_ARCHIVE = "cifar10_jpeg.npz"
JPEG_NOTE = "JPEG re-encoded"
HOW_TO_GET = (
    "download cifar-10-python.tar.gz or cifar-10-binary.tar.gz from "
    "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
)

Split = Literal["train", "test"]


def load(folder: Path | str, split: Split) -> Labelled:
    """Read one split of the set in `folder` (or a folder in it); images are RGB.

    Raises DataError that says how to get the files where there are none, and for damaged ones.
    """
    folder = Path(folder)
    batches = TRAIN_BATCHES if split == "train" else TEST_BATCHES
    for place in (folder, *(folder / name for name in FOLDERS)):
        if (place / batches[0]).is_file():
            return _joined([_read_python(place / name) for name in batches])
        if (place / f"{batches[0]}.bin").is_file():
            return _joined([_read_binary(place / f"{name}.bin") for name in batches])
    archive = folder if folder.name == JPEG_ARCHIVE else folder / JPEG_ARCHIVE
    if archive.is_file():
        return _read_archive(archive, split)
    raise DataError(
        f"{folder}: holds no CIFAR-10 ({batches[0]}, {batches[0]}.bin or {JPEG_ARCHIVE}); "
        f"{HOW_TO_GET}"
    )


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> Labelled:
    planes, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    images = planes.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Labelled(np.ascontiguousarray(images), labels.astype(np.int32), CLASSES)


def _read_python(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return planes `[N, 3072]` and labels of a pickled batch."""
    try:
        with path.open("rb") as file:
            batch = PlainUnpickler(file).load()
        planes, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
        if planes.dtype != np.uint8 or planes.shape != (len(labels), RECORD_BYTES - 1):
            raise DataError(f"data is {planes.dtype} {planes.shape} for {len(labels)} labels")
        return planes, _checked(labels)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing beside the other batches; {HOW_TO_GET}") from error
    except (ForeignGlobalError, DataError) as error:
        raise DataError(f"{path}: {error}; unpack the set again") from error
    except Exception as error:  # what a damaged pickle makes its reader do is anyone's guess
        raise DataError(
            f"{path}: no readable batch ({type(error).__name__}); unpack the set again"
        ) from error


def _read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return planes `[N, 3072]` and labels of a binary batch."""
    if not path.is_file():
        raise DataError(f"{path}: missing beside the other batches; {HOW_TO_GET}")
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % RECORD_BYTES:
        raise DataError(
            f"{path}: {content.size} bytes are no whole records of {RECORD_BYTES}; "
            "unpack the set again"
        )
    records = content.reshape(-1, RECORD_BYTES)
    try:
        return records[:, 1:], _checked(records[:, 0])
    except DataError as error:
        raise DataError(f"{path}: {error}; unpack the set again") from error


def _read_archive(path: Path, split: Split) -> Labelled:
    """Read arrays <split>_jpeg (files joined), <split>_offsets `[N + 1]` and <split>_labels."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # np.load leaves a bad file open
            joined, offsets, labels = (
                arrays[f"{split}_{name}"] for name in ("jpeg", "offsets", "labels")
            )
        for array in (joined, offsets):
            if array.ndim != 1 or array.dtype.kind not in "iu":
                raise DataError(f"an array is {array.dtype} {array.shape}, not a row of integers")
        content, spans = joined.tobytes(), pairwise(offsets)
        with ThreadPoolExecutor() as pool:  # JPEG decoding releases the interpreter lock
            images = list(pool.map(lambda span: _decode(content[span[0] : span[1]]), spans))
        if len(images) != len(labels):
            raise DataError(f"{len(images)} images for {len(labels)} labels")
        return Labelled(np.stack(images), _checked(labels), CLASSES, JPEG_NOTE)
    except Exception as error:  # zip, numpy and Pillow each raise a dozen kinds
        raise DataError(f"{path}: damaged archive ({error}); get it again") from error


def _decode(content: bytes) -> UInt8[np.ndarray, "32 32 3"]:
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    if pixels.shape != (SIDE, SIDE, 3):
        raise DataError(f"an image is {pixels.shape[1]}x{pixels.shape[0]}, not {SIDE}x{SIDE}")
    return pixels


def _checked(labels: np.ndarray) -> np.ndarray:
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"labels are {labels.dtype} {labels.shape}, not a row of integers")
    if labels.size == 0 or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise DataError(f"labels must be 0..{len(CLASSES) - 1}")
    return labels.astype(np.int32)
