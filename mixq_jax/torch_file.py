# SPDX-License-Identifier: Apache-2.0
"""Reading of PyTorch checkpoints without PyTorch: tensors and numbers, no code of the file is run.

Both formats of `torch.save`: a zip archive (data.pkl, data/<key>), and before 1.6 a row of pickles
(magic number, protocol, system, document, keys) followed by the storages. The document refers to a
storage by ("storage", type, key, device, elements).
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mixq_jax.plain_pickle import PLAIN, ForeignGlobalError, PlainUnpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Keys under which training programs keep the state dict and the widths of its layers.
STATE_KEYS = ("model", "state_dict", "net")
BITS_KEYS = ("model_params", "extparams")
WIDTH_KEYS = ("bitw", "bita")  # of weights, of activations
_DTYPES = {
    "Double": np.float64,
    "Float": np.float32,
    "Half": np.float16,
    "Long": np.int64,
    "Int": np.int32,
    "Short": np.int16,
    "Char": np.int8,
    "Byte": np.uint8,
    "Bool": np.bool_,
}


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

    Only tensors, containers and numpy arrays are unpickled; any other global is refused by name.
    Raises TorchFileError.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise TorchFileError(f"{path}: {what}; give a checkpoint of torch.save")
    try:
        with path.open("rb") as file:
            archive = zipfile.is_zipfile(file)
            file.seek(0)
            document = _read_archive(file) if archive else _read_legacy(file)
        return _select(document)
    except (TorchFileError, ForeignGlobalError) as error:
        raise TorchFileError(f"{path}: {error}") from error
    except Exception as error:  # what a damaged pickle makes its reader do is anyone's guess
        raise TorchFileError(
            f"{path}: is no readable PyTorch checkpoint ({type(error).__name__}); save it again"
        ) from error


def _read_archive(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        name = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
        if name is None:
            raise TorchFileError("is a zip archive without data.pkl, so not of torch.save")
        folder = name.removesuffix("data.pkl")

        def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype, count)

        with archive.open(name) as document:
            return _Unpickler(document, storage).load()


def _read_legacy(file: BinaryIO) -> Any:
    storages: dict[str, np.ndarray] = {}

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        return storages.setdefault(key, np.zeros(count, dtype))  # filled in below

    def number() -> Any:
        return _Unpickler(file, storage).load()

    if number() != LEGACY_MAGIC:
        raise TorchFileError("is neither format of torch.save")
    number(), number()  # protocol, system
    document, keys = number(), number()
    for key in keys:
        file.seek(8, 1)  # the number of elements, which the document has told
        values = storages[key]
        content = file.read(values.nbytes)
        values[:] = np.frombuffer(content, values.dtype, len(values))
    return document


class _Unpickler(PlainUnpickler):
    """Builds what checkpoints are made of, with storages that `storage` provides."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, np.dtype, int], np.ndarray]):
        super().__init__(file)
        self.storage = storage

    def persistent_load(self, reference: tuple) -> np.ndarray:
        _, dtype, key, _, count, *_ = reference
        return self.storage(key, dtype, count)


def _tensor(
    storage: np.ndarray, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> np.ndarray:
    """Return the tensor of `size` in a storage, as a view; it must lie inside."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or (0 not in size and last >= len(storage)):
        raise TorchFileError(f"a tensor of {size} does not fit its {len(storage)} numbers")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


_Unpickler.allowed = PLAIN | {
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", f"{kind}Storage"): np.dtype(dtype) for kind, dtype in _DTYPES.items()},
}


def _select(document: Any) -> TorchFile:
    """Return the state dict and the widths of a document."""
    if not isinstance(document, Mapping):
        raise TorchFileError(f"holds a {type(document).__name__}; needs a state dict")
    states = (document[key] for key in STATE_KEYS if isinstance(document.get(key), Mapping))
    state = next(states, document)
    tensors = {
        str(name): np.array(value)
        for name, value in state.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"
    }
    if not tensors:
        raise TorchFileError(
            f"holds no tensors (keys: {', '.join(map(str, list(document)[:8]))}); needs a state "
            f"dict, bare or under {', '.join(STATE_KEYS)}"
        )
    owners = (document[key] for key in BITS_KEYS if isinstance(document.get(key), Mapping))
    widths = next(owners, document)
    return TorchFile(tensors, *(_digits(key, widths.get(key)) for key in WIDTH_KEYS))


def _digits(key: str, bits: Any) -> str | None:
    """Return widths given as "4448" or as a row of whole numbers; None if there are none."""
    if bits is None or (isinstance(bits, str | list | tuple) and not bits):
        return None
    try:
        row = np.array(list(bits) if isinstance(bits, str) else bits).astype(float)
    except (ValueError, TypeError):
        row = np.empty(0)
    if row.ndim != 1 or not len(row) or not np.isin(row, range(1, 10)).all():
        raise TorchFileError(
            f"'{key}' is {str(bits)[:60]!r}; widths are a row of digits 1..9, one a layer"
        )
    return "".join(str(int(width)) for width in row)
