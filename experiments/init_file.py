# SPDX-License-Identifier: Apache-2.0
"""--init: a checkpoint's number formats, widths and weights, checked against the network."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.options import OptionError, RunOptions, given_beside
from mixq_jax import pretrained, torch_file
from mixq_jax.bits import BitsError, FixedBits, parse_bits
from mixq_jax.model import check_bits, uniform_bits
from mixq_jax.pretrained import PretrainedError
from mixq_jax.spec import ClassifyHead, ConvSpec, NetSpec, PoolSpec
from mixq_jax.torch_file import TorchFile, TorchFileError

# What `test --init` reads: nothing is trained and nothing kept, so that the rest means nothing.
TESTED = ("init", "data", "dataset", "net", "quantiser", "wbits", "abits", "unquantised", "slim")
TESTED += ("cache", "json")
OF_THE_ACCELERATOR = ("device", "clock_mhz")


@dataclass(frozen=True)
class InitFile:
    """A checkpoint and what tells its content: the first 12 digits of its SHA-256."""

    path: Path
    digest: str
    content: TorchFile

    @property
    def recorded(self) -> str:
        """The file as records name it: another content is another file, another folder is not."""
        return f"{self.path.name} (sha256 {self.digest})"


def load(path: Path) -> InitFile:
    """Return the checkpoint; TorchFileError if it cannot be read."""
    try:
        content = torch_file.load(path)
    except TorchFileError as error:
        raise TorchFileError(f"--init {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return InitFile(path, digest[:12], content)


def check_test(options: RunOptions) -> None:
    """Raise OptionError for options that `test --init` has no use for."""
    used = TESTED if options.unquantised else TESTED + OF_THE_ACCELERATOR
    for name, value in given_beside(options, used):
        raise OptionError(
            f"test --init: --{name} {value} has no effect on a file that is measured as it is; "
            "leave it out, or give --out to test what was trained from it"
        )


def quantiser(file: InitFile, unquantised: bool) -> str:
    """Return the number formats of the file's makers.

    A file with widths is DeepBurning-MixQ's and so is a float network; others are a contest team's.
    """
    return "mixq" if file.content.w_bits or unquantised else "contest"


def widths(file: InitFile, spec: NetSpec) -> FixedBits:
    """Return the file's widths; a contest team's has 4 bits everywhere, behind an 8-bit image.

    Raises OptionError where they do not fit, and for a classifier's file that has none.
    """
    w, a = file.content.w_bits, file.content.a_bits
    if w is None or a is None:
        if isinstance(spec.head, ClassifyHead):
            raise OptionError(
                f"--init {file.path}: has no widths; give --wbits and --abits, or --unquantised"
            )
        return uniform_bits(spec, 4, 4)
    return parse_widths(spec, w, a, f"--init {file.path}: its widths do not fit")


def parse_widths(spec: NetSpec, w: str, a: str, origin: str) -> FixedBits:
    """Return widths given as digits; OptionError beginning with `origin` where they do not fit."""
    try:
        bits = parse_bits(w, a, spec.fixed_bits)
        check_bits(spec, bits)
    except BitsError as error:
        raise OptionError(f"{origin}: {error}") from error
    return bits


def variables(file: InitFile, spec: NetSpec) -> dict:
    """Return the file's weights as variables of `spec`; PretrainedError names the file."""
    try:
        return pretrained.to_variables(spec, file.content.tensors)
    except PretrainedError as error:
        raise PretrainedError(f"--init {file.path}: {error}") from error


def check_float(file: InitFile) -> None:
    """Raise OptionError if a network that is to run in float32 was trained at widths."""
    if file.content.w_bits is not None:
        raise OptionError(
            f"--init {file.path}: was trained at the widths {file.content.w_bits}, "
            f"{file.content.a_bits}; --unquantised takes networks trained in float"
        )


def check_pools(file: InitFile, spec: NetSpec, params: dict) -> None:
    """Raise OptionError where a float classifier's weights are another function in `spec`.

    The published float networks of classifiers pool before their norms, `spec` behind them.
    """
    if file.content.w_bits or not isinstance(spec.head, ClassifyHead):
        return
    for layer in spec.layers:
        if isinstance(layer, PoolSpec) and isinstance(spec[layer.source], ConvSpec):
            negative = int((np.asarray(params[f"{layer.source}_gamma"]) < 0).sum())
            if negative:
                raise OptionError(
                    f"--init {file.path}: layer '{layer.source}' has {negative} negative gammas; a "
                    "float network pools before its norms and a quantised one behind, which "
                    "differs there: train on from it, take --unquantised, or if it was trained "
                    "quantised name its --quantiser"
                )
