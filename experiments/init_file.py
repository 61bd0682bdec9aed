# SPDX-License-Identifier: Apache-2.0
"""--init: a checkpoint's number formats, widths and weights, checked against the network."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.options import OptionError, RunOptions, given_beside
from mixq_jax import pretrained, torch_file
from mixq_jax.bits import BitsError, FixedBits, parse_bits
from mixq_jax.model import check_bits
from mixq_jax.nets.baselines import BASELINES, CONTEST
from mixq_jax.pretrained import PretrainedError
from mixq_jax.spec import ClassifyHead, ConvSpec, NetSpec, PoolSpec
from mixq_jax.torch_file import TorchFile, TorchFileError

# What `test --init` reads: nothing is trained and nothing kept, so that the rest means nothing.
TESTED = ("init", "data", "dataset", "net", "quantiser", "wbits", "abits", "unquantised", "slim")
TESTED += ("preset", "cache", "stream", "json")  # of the preset, the size of the images
OF_THE_ACCELERATOR = ("device", "clock_mhz", "csim_frames")


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

    A file with widths or with buffers of its layers is DeepBurning-MixQ's and so is a float
    network; others are a contest team's.
    """
    return "mixq" if unquantised or _is_mixq(file) else "contest"


def _is_mixq(file: InitFile) -> bool:
    content = file.content
    widths = content.w_bits is not None or content.a_bits is not None
    return widths or pretrained.has_mixq_layers(content.tensors)


def widths(file: InitFile, spec: NetSpec, quantiser: str) -> FixedBits:
    """Return the file's widths, or those that its makers have published for all such networks.

    Raises OptionError where they do not fit, and where neither is known.
    """
    w, a = file.content.w_bits, file.content.a_bits
    if w is None and a is None:
        published = team_widths(spec.name, quantiser)
        if published is None:
            raise OptionError(
                f"--init {file.path}: has no widths, and '{spec.name}' with --quantiser "
                f"{quantiser} has no published ones; give --wbits and --abits, or --unquantised"
            )
        w, a = published
    if w is None or a is None:
        has, lacks = ("bitw", "bita") if a is None else ("bita", "bitw")
        raise OptionError(
            f"--init {file.path}: has {has} {w or a} but no {lacks}; give --wbits and --abits"
        )
    return parse_widths(spec, w, a, f"--init {file.path}: its widths do not fit")


def team_widths(net: str, quantiser: str) -> tuple[str, str] | None:
    """Return (w, a) of the contest team whose networks `net` all have them, None if unknown.

    DeepBurning-MixQ's formats come at any widths.
    """
    if quantiser != "contest":
        return None
    teams = (one for one in BASELINES.values() if (one.net, one.quant) == (net, CONTEST))
    return next(((team.w, team.a) for team in teams), None)


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
    if _is_mixq(file):
        at = ", ".join(filter(None, (file.content.w_bits, file.content.a_bits)))
        trained = f"at the widths {at}" if at else "with quantised layers"
        raise OptionError(
            f"--init {file.path}: was trained {trained}; --unquantised takes networks trained in "
            "float"
        )


def check_pools(file: InitFile, spec: NetSpec, params: dict) -> None:
    """Raise OptionError where a float classifier's weights are another function in `spec`.

    The published float networks of classifiers pool before their norms, `spec` behind them.
    """
    if _is_mixq(file) or not isinstance(spec.head, ClassifyHead):
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
