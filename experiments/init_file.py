# SPDX-License-Identifier: Apache-2.0
"""--init: a checkpoint's number formats, widths and weights, checked against the network."""

import hashlib
from dataclasses import fields
from pathlib import Path

import numpy as np

from experiments.options import OptionError, RunOptions
from mixq_jax import pretrained, torch_file
from mixq_jax.bits import BitsError, FixedBits, parse_bits
from mixq_jax.model import uniform_bits
from mixq_jax.pretrained import PretrainedError
from mixq_jax.spec import ClassifyHead, ConvSpec, NetSpec, PoolSpec
from mixq_jax.torch_file import TorchFile

# What `test --init` reads: nothing is trained and nothing kept, so that the rest means nothing.
TESTED = ("init", "data", "dataset", "net", "quantiser", "wbits", "abits", "unquantised", "slim")
TESTED += ("device", "clock_mhz", "cache", "json")


def load(path: Path) -> TorchFile:
    """Return the checkpoint; TorchFileError if it cannot be read."""
    return torch_file.load(path)


def digest(path: Path) -> str:
    """Return what tells a file's content: the first 12 digits of its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def check_test(options: RunOptions) -> None:
    """Raise OptionError for options that `test --init` has no use for."""
    for field in fields(options):
        value = getattr(options, field.name)
        if field.name not in TESTED and value != field.default:
            raise OptionError(
                f"test --init: --{field.name.replace('_', '-')} {value} has no effect, as nothing "
                "is trained or kept; leave it out"
            )


def quantiser(file: TorchFile, unquantised: bool) -> str:
    """Return the number formats of the file's makers.

    A file with widths is DeepBurning-MixQ's and so is a float network; others are a contest team's.
    """
    return "mixq" if file.w_bits or unquantised else "contest"


def widths(path: Path, file: TorchFile, spec: NetSpec) -> FixedBits:
    """Return the file's widths; a contest team's has 4 bits everywhere, behind an 8-bit image.

    Raises OptionError where they do not fit, and for a classifier's file that has none.
    """
    if file.w_bits is None or file.a_bits is None:
        if isinstance(spec.head, ClassifyHead):
            raise OptionError(
                f"--init {path}: has no widths; give --wbits and --abits, or --unquantised"
            )
        return uniform_bits(spec, 4, 4)
    try:
        return parse_bits(file.w_bits, file.a_bits, spec.fixed_bits)
    except BitsError as error:
        raise OptionError(f"--init {path}: its widths do not fit: {error}") from error


def variables(path: Path, file: TorchFile, spec: NetSpec) -> dict:
    """Return the file's weights as variables of `spec`; PretrainedError names the file."""
    try:
        return pretrained.to_variables(spec, file.tensors)
    except PretrainedError as error:
        raise PretrainedError(f"--init {path}: {error}") from error


def check_pools(path: Path, file: TorchFile, spec: NetSpec, params: dict) -> None:
    """Raise OptionError where a float classifier's weights are another function in `spec`.

    The published float networks of classifiers pool before their norms, `spec` behind them.
    """
    if file.w_bits or not isinstance(spec.head, ClassifyHead):
        return
    for layer in spec.layers:
        if isinstance(layer, PoolSpec) and isinstance(spec[layer.source], ConvSpec):
            negative = int((np.asarray(params[f"{layer.source}_gamma"]) < 0).sum())
            if negative:
                raise OptionError(
                    f"--init {path}: layer '{layer.source}' has {negative} negative gammas; the "
                    "float network pools before its norms and the quantised one behind, which "
                    "differs there: train on from it, or take --unquantised"
                )


def as_recorded(path: Path) -> str:
    """Return the file's name with its digest, so that another content counts as another file."""
    return f"{path} (sha256 {digest(path)})"
