# SPDX-License-Identifier: Apache-2.0
"""Images with class labels: what every classification set is loaded to."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, UInt8


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

    def head(self, count: int) -> "Labelled":
        """Return the first `count` images."""
        return Labelled(self.images[:count], self.labels[:count], self.classes, self.note)
