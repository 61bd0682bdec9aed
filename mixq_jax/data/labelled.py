# SPDX-License-Identifier: Apache-2.0
"""Images with class labels: what every classification set is loaded to."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images (bytes; RGB where there are three channels), their labels and the classes' names.

    `note` says what a reader of results must know of the data, "" if nothing.
    """

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]
    classes: tuple[str, ...]
    note: str = ""

    @property
    def targets(self) -> Int32[np.ndarray, " n"]:
        return self.labels

    @property
    def weights(self) -> Float32[np.ndarray, " n"]:
        return np.ones(len(self.labels), np.float32)

    def rows(self, chosen: slice | Int[np.ndarray, " m"]) -> "Labelled":
        """Return some images."""
        return Labelled(self.images[chosen], self.labels[chosen], self.classes, self.note)

    def head(self, count: int) -> "Labelled":
        """Return the first `count` images."""
        return self.rows(slice(count))


def sample_rows(total: int, count: int | None) -> Int[np.ndarray, " m"]:
    """Return rows of the first `count` of `total` images in a fixed shuffle, or all in order.

    A shuffle, because files are sorted by class in some versions of some sets.
    """
    if count is None or count >= total:
        return np.arange(total)
    return np.random.default_rng(0).permutation(total)[:count]
