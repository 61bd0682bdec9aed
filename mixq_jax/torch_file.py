# SPDX-License-Identifier: Apache-2.0
"""Reading of PyTorch checkpoints: tensors and widths, no code of the file is run."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Keys under which training programs keep the state dict and the widths of its layers.
STATE_KEYS = ("model", "state_dict", "net")
BITS_KEYS = ("model_params", "extparams")


class TorchFileError(ValueError):
    """A checkpoint that cannot be read; the message names the file and what is wrong."""


@dataclass(frozen=True, eq=False)
class TorchFile:
    """Tensors by name in the order of the file, and digit strings of widths where it has them."""

    tensors: dict[str, np.ndarray]
    w_bits: str | None = None
    a_bits: str | None = None


def load(path: Path | str) -> TorchFile:
    """Read a checkpoint of `torch.save`: a state dict, or a dict that holds one.

    Only tensors, containers and numpy arrays are unpickled: any other global is refused by name.
    Needs the extra `torch`. Raises TorchFileError.
    """
    path = Path(path)
    if not path.is_file():
        raise TorchFileError(f"{path}: no such file; give a checkpoint of torch.save")
    torch = _torch()
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        raise TorchFileError(f"{path}: {_reason(error)}") from error
    return _from_document(path, found, torch)


def _torch():
    try:
        import torch
    except ImportError as error:
        raise TorchFileError(
            "reading a .pt file needs PyTorch; install mixq-jax[torch] (pip, CPU build suffices)"
        ) from error
    return torch


def _numpy_globals() -> list:
    """Return what a pickled numpy array or number is made of, and text that protocol 2 encodes."""
    import _codecs

    multiarray = np._core.multiarray
    dtypes = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "u1", "bool", "O")]
    # Objects are lists of allowed things: each of their elements is unpickled by the same rules.
    return [
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy.core.multiarray.scalar"),
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
        (multiarray.scalar, "numpy._core.multiarray.scalar"),
        np.ndarray,
        np.dtype,
        *dtypes,
        _codecs.encode,
    ]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    foreign = re.search(r"GLOBAL (\S+) was not an allowed", text)
    if foreign:
        return f"holds '{foreign[1]}', which is no tensor; only tensors and numbers are read"
    return f"is no readable checkpoint ({type(error).__name__}: {text[:120]})"


def _from_document(path: Path, found, torch) -> TorchFile:
    if not isinstance(found, Mapping):
        raise TorchFileError(f"{path}: holds a {type(found).__name__}; needs a state dict")
    inner = next((found[key] for key in STATE_KEYS if isinstance(found.get(key), Mapping)), found)
    tensors = {
        str(name): value.detach().cpu().numpy()
        for name, value in inner.items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise TorchFileError(
            f"{path}: holds no tensors (keys: {', '.join(map(str, list(found)[:8]))}); needs a "
            f"state dict, bare or under {', '.join(STATE_KEYS)}"
        )
    bits = next((found[key] for key in BITS_KEYS if isinstance(found.get(key), Mapping)), found)
    return TorchFile(tensors, _digits(bits.get("bitw")), _digits(bits.get("bita")))


def _digits(bits) -> str | None:
    """Return widths given as "4448" or as a list of integers; None if there are none."""
    return "".join(map(str, bits)) if bits else None
