# SPDX-License-Identifier: Apache-2.0
"""Frames in files: decoded and resized when they are asked for."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mixq_jax.data.annotations import DataError, Progress, Sample
from mixq_jax.data.resize import resize_bilinear


@dataclass(frozen=True, eq=False)
class FrameFiles:
    """Frames on disk in the place of an array of their pixels, BGR bytes `[N, height, width, 3]`.

    `files[rows]` decodes a slice or an array of rows, each time anew, and raises what `read_frame`
    raises.
    """

    samples: tuple[Sample, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, rows: slice | np.ndarray) -> UInt8[np.ndarray, "n h w 3"]:
        chosen = self.only(rows).samples
        images = np.empty((len(chosen), self.height, self.width, 3), np.uint8)
        decode_into(images, chosen)
        return images

    def only(self, rows: slice | np.ndarray) -> "FrameFiles":
        """Return the files of `rows`."""
        chosen = np.arange(len(self))[rows]
        return FrameFiles(tuple(self.samples[row] for row in chosen), self.height, self.width)


def decode_into(
    images: UInt8[np.ndarray, "n h w 3"],
    samples: Sequence[Sample],
    progress: Progress | None = None,
) -> None:
    """Fill `images` with the frames of `samples`, by threads of this process."""

    def decode(i: int) -> None:
        images[i] = read_frame(samples[i], *images.shape[1:3])

    with ThreadPoolExecutor() as pool:  # JPEG decoding releases the interpreter lock
        for done, _ in enumerate(pool.map(decode, range(len(samples))), start=1):
            if progress is not None:
                progress(done, len(samples))


def read_frame(sample: Sample, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return the frame as BGR bytes of `height` x `width`, aspect not kept.

    Raises DataError for an image that is unreadable or of another size than its xml says.
    """
    try:
        with Image.open(sample.path) as image:
            rgb = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{sample.path}: unreadable jpg ({error}); replace or remove the pair"
        ) from error
    if rgb.shape[:2] != (sample.height, sample.width):
        raise DataError(
            f"{sample.path.with_suffix('.xml')}: size says {sample.width}x{sample.height} but "
            f"{sample.path.name} is {rgb.shape[1]}x{rgb.shape[0]}; correct it or replace the image"
        )
    return resize_bilinear(rgb, height, width)[..., ::-1]
