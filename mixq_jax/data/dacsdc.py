# SPDX-License-Identifier: Apache-2.0
"""Loader of DAC System Design Contest data: split, decode, resize, keep the decoded arrays."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from mixq_jax.data.annotations import (
    DataError,
    Progress,
    Sample,
    list_frames,
    read_annotations,
    scan,
)
from mixq_jax.data.atomic import atomic_directory
from mixq_jax.data.frames import FrameFiles, decode_into

__all__ = ["DataError", "Dataset", "Progress", "Sample", "Split", "load", "scan"]

CACHE_VERSION = 1
TEST_FRACTION = 0.2
# From here on whole folders are held out: neighbouring frames of a sequence are near-duplicates.
FOLDERS_TO_SPLIT_BY = 5

Split = Literal["train", "test", "all"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Frames; row i of every field is frame i.

    `images` are BGR bytes, or files that give them row by row, `boxes` (cx, cy, w, h) in units of
    the frame's width and height, `weights` the frames' weights in the loss, `names` the jpg paths
    relative to the data folder.
    """

    images: UInt8[np.ndarray, "n h w 3"] | FrameFiles
    boxes: Float32[np.ndarray, "n 4"]
    weights: Float32[np.ndarray, " n"]
    names: tuple[str, ...]

    @property
    def targets(self) -> Float32[np.ndarray, "n 4"]:
        return self.boxes

    def rows(self, chosen: slice) -> "Dataset":
        """Return some frames, decoded."""
        return Dataset(
            self.images[chosen], self.boxes[chosen], self.weights[chosen], self.names[chosen]
        )

    def head(self, count: int) -> "Dataset":
        """Return the first `count` frames, decoded."""
        return self.rows(slice(count))


def load(
    directory: Path | str,
    height: int,
    width: int,
    split: Split = "all",
    *,
    cache: Path | str | None = None,
    limit_bytes: float = math.inf,
    progress: Progress | None = None,
) -> Dataset:
    """Decode one split, each frame resized straight to `height` x `width` (aspect not kept).

    Where `directory` has both a train and a test folder, the split is the folder. Otherwise the
    test split is a fifth of the folders (of the frames, below five folders), chosen by a hash of
    their names. `cache` is a folder for decoded arrays, found again by the frames' names, sizes
    and times; they are then memory-mapped. A split whose pixels would take more than `limit_bytes`
    is not decoded but left in its files (`FrameFiles`). Raises DataError where `scan` does and,
    when it is decoded, for an image that is unreadable or of another size than its xml says.
    """
    directory = Path(directory)
    paths = _select(directory, list_frames(directory), split)
    shape = (len(paths), height, width, 3)
    if math.prod(shape) > limit_bytes:
        samples = read_annotations(paths, progress)
        return _labelled(directory, samples, FrameFiles(samples, height, width))
    if cache is None:
        return _decode(directory, paths, np.empty(shape, np.uint8), progress)
    entry = Path(cache) / _cache_key(directory, paths, height, width)
    if not entry.is_dir():
        with atomic_directory(entry) as partial:
            images = np.lib.format.open_memmap(partial / "images.npy", "w+", np.uint8, shape)
            _store_labels(partial, _decode(directory, paths, images, progress))
    return _restore(entry)


def _select(directory: Path, paths: list[Path], split: Split) -> list[Path]:
    """Return the frames of `split`, in order."""
    if split == "all":
        return paths
    if (directory / "train").is_dir() and (directory / "test").is_dir():
        chosen = [path for path in paths if path.relative_to(directory).parts[0] == split]
    else:
        by_folder = len({path.parent for path in paths}) >= FOLDERS_TO_SPLIT_BY
        units = [(path.parent if by_folder else path).relative_to(directory) for path in paths]
        test = _held_out({unit.as_posix() for unit in units})
        chosen = [
            path
            for path, unit in zip(paths, units, strict=True)
            if (unit.as_posix() in test) == (split == "test")
        ]
    if not chosen:
        raise DataError(f"{directory}: no frames in split '{split}'; add frames")
    return chosen


def _held_out(units: set[str]) -> set[str]:
    """Return the fifth of `units` whose SHA-256 is smallest: the same on every machine."""
    ranked = sorted(units, key=lambda unit: hashlib.sha256(unit.encode()).digest())
    return set(ranked[: round(len(ranked) * TEST_FRACTION)])


def _decode(
    directory: Path,
    paths: list[Path],
    images: UInt8[np.ndarray, "n h w 3"],
    progress: Progress | None,
) -> Dataset:
    """Fill `images` from `paths` and return them with their labels."""
    samples = read_annotations(paths)
    decode_into(images, samples, progress)
    return _labelled(directory, samples, images)


def _labelled(
    directory: Path,
    samples: tuple[Sample, ...],
    images: UInt8[np.ndarray, "n h w 3"] | FrameFiles,
) -> Dataset:
    boxes = np.array([_centre_size(sample) for sample in samples], np.float32)
    weights = np.array([sample.weight for sample in samples], np.float32)
    names = tuple(sample.path.relative_to(directory).as_posix() for sample in samples)
    return Dataset(images, boxes, weights, names)


def _centre_size(sample: Sample) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = sample.box
    w, h = sample.width, sample.height
    return (xmin + xmax) / 2 / w, (ymin + ymax) / 2 / h, (xmax - xmin) / w, (ymax - ymin) / h


def _cache_key(directory: Path, paths: list[Path], height: int, width: int) -> str:
    """Return a name that changes with the frames' names, sizes and times, and with the shape."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {height} {width}\n".encode())
    for path in paths:
        digest.update(f"{path.relative_to(directory).as_posix()}".encode())
        for file in (path, path.with_suffix(".xml")):
            status = file.stat()
            digest.update(f" {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _store_labels(entry: Path, data: Dataset) -> None:
    np.save(entry / "boxes.npy", data.boxes)
    np.save(entry / "weights.npy", data.weights)
    (entry / "names.json").write_text(json.dumps(data.names))


def _restore(entry: Path) -> Dataset:
    try:
        return Dataset(
            np.load(entry / "images.npy", mmap_mode="r"),
            np.load(entry / "boxes.npy"),
            np.load(entry / "weights.npy"),
            tuple(json.loads((entry / "names.json").read_text())),
        )
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{entry}: damaged cache ({error}); delete that folder") from error
