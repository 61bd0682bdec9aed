# SPDX-License-Identifier: Apache-2.0
"""Unpickling of numbers, containers and numpy arrays; everything else is refused by its name."""

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import numpy as np

_MULTIARRAY = np._core.multiarray


class ForeignGlobalError(ValueError):
    """A pickle that names something which is no plain data; the message has its name."""


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes that protocol 2 wrote as text."""
    if encoding != "latin1":
        raise ForeignGlobalError(f"text is encoded as {encoding}, not as latin1")
    return text.encode("latin1")


PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{
        (module, name): getattr(_MULTIARRAY, name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    },
}


class PlainUnpickler(pickle.Unpickler):
    """Builds plain data; `allowed` (module, name) -> object says what that is made of."""

    allowed = PLAIN

    def __init__(self, file: BinaryIO, encoding: str = "latin1"):
        super().__init__(file, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.allowed:
            return self.allowed[module, name]
        raise ForeignGlobalError(
            f"holds '{module}.{name}', which is not read: only numbers, arrays and containers are"
        )
