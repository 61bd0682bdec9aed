# SPDX-License-Identifier: Apache-2.0
"""CIFAR-10 as its authors publish it (python or binary version), or an archive of JPEG files."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mixq_jax.data.annotations import DataError
from mixq_jax.data.atomic import atomic_directory
from mixq_jax.data.labelled import Labelled, sample_rows
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
CACHE_VERSION = 1
JPEG_NOTE = "JPEG re-encoded"
HOW_TO_GET = (
    "download cifar-10-python.tar.gz or cifar-10-binary.tar.gz from "
    "https://www.cs.toronto.edu/~kriz/cifar.html and unpack it there"
)

Split = Literal["train", "test"]


def load(
    folder: Path | str,
    split: Split,
    count: int | None = None,
    cache: Path | str | None = None,
) -> Labelled:
    """Read one split of the set in `folder` (or a folder in it); images are RGB.

    At most `count` images, those of `sample_rows`; of an archive of JPEG files no others are
    decoded. `cache` is a folder for what was decoded, found again by the archive's content; it is
    then memory-mapped. Raises DataError that says how to get the files where there are none, and
    for damaged ones.
    """
    folder = Path(folder)
    batches = TRAIN_BATCHES if split == "train" else TEST_BATCHES
    for place in (folder, *(folder / name for name in FOLDERS)):
        if (place / batches[0]).is_file():
            return _joined([_read_python(place / name) for name in batches], count)
        if (place / f"{batches[0]}.bin").is_file():
            return _joined([_read_binary(place / f"{name}.bin") for name in batches], count)
    archive = folder if folder.name == JPEG_ARCHIVE else folder / JPEG_ARCHIVE
    if archive.is_file():
        return _read_archive(archive, split, count, cache)
    raise DataError(
        f"{folder}: holds no CIFAR-10 ({batches[0]}, {batches[0]}.bin or {JPEG_ARCHIVE}); "
        f"{HOW_TO_GET}"
    )


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], count: int | None) -> Labelled:
    planes, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    rows = sample_rows(len(labels), count)
    images = planes[rows].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Labelled(np.ascontiguousarray(images), labels[rows].astype(np.int32), CLASSES)


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


def _read_archive(
    path: Path, split: Split, count: int | None, cache: Path | str | None
) -> Labelled:
    """Read arrays <split>_jpeg (files joined), <split>_offsets `[N + 1]` and <split>_labels."""
    entry = None if cache is None else Path(cache) / _cache_key(path, split, count)
    try:
        with path.open("rb") as file, np.load(file) as arrays:  # np.load leaves a bad file open
            offsets = _row(arrays[f"{split}_offsets"])
            labels = _checked(arrays[f"{split}_labels"])
            if len(offsets) - 1 != len(labels):
                raise DataError(f"{len(offsets) - 1} images for {len(labels)} labels")
            rows = sample_rows(len(labels), count)
            if entry is None or not entry.is_dir():
                images = _decoded(_row(arrays[f"{split}_jpeg"]), offsets, rows)
    except Exception as error:  # zip, numpy and Pillow each raise a dozen kinds
        raise DataError(f"{path}: damaged archive ({error}); get it again") from error
    if entry is not None:
        if not entry.is_dir():
            with atomic_directory(entry) as partial:
                np.save(partial / "images.npy", images)
        images = _restored(entry, len(rows))
    return Labelled(images, labels[rows], CLASSES, JPEG_NOTE)


def _cache_key(path: Path, split: Split, count: int | None) -> str:
    """Return a name that changes with the archive's content and with what is taken of it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(f"{CACHE_VERSION} {split} {count}".encode())
    return f"cifar10-{split}-{digest.hexdigest()[:24]}"


def _restored(entry: Path, count: int) -> UInt8[np.ndarray, "n 32 32 3"]:
    try:
        images = np.load(entry / "images.npy", mmap_mode="r")
        if images.shape != (count, SIDE, SIDE, 3) or images.dtype != np.uint8:
            raise ValueError(f"{images.dtype} {images.shape}")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{entry}: damaged cache ({error}); delete that folder") from error
    return images


def _row(array: np.ndarray) -> np.ndarray:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"an array is {array.dtype} {array.shape}, not a row of integers")
    return array


def _decoded(
    joined: np.ndarray, offsets: np.ndarray, rows: np.ndarray
) -> UInt8[np.ndarray, "n 32 32 3"]:
    """Return the images of `rows`; image i is the bytes offsets[i] to offsets[i + 1]."""
    with ThreadPoolExecutor() as pool:  # JPEG decoding releases the interpreter lock
        images = pool.map(lambda i: _decode(joined[offsets[i] : offsets[i + 1]].tobytes()), rows)
        return np.stack(list(images))


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
