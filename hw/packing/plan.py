# SPDX-License-Identifier: Apache-2.0
"""PackPlan: a complete, machine-readable description of how small products share one DSP.

Weights sit at bit offsets o_i on one port, activations at p_j on the other:

    W = sum_i w_i 2^o_i,   A = sum_j a_j 2^p_j,   W A = sum_f v_f 2^f,   f = o_i + p_j

A weight lane has a label (group, tap), an activation lane (row, column). Products may share a field
only if they belong to one output (group, row, column - tap).

Decoding (`chain` = N products W A are summed in the DSP before it). With the constant
`bias` = -sum_f N lo_f 2^f added, every field u_f = v_f - N lo_f is >= 0. From low to high
with delta_k = f_{k+1} - f_k and the t low bits of u_{k+1} known from logic outside the DSP:

    u_k = ((P >> f_k) - ((u_{k+1} mod 2^t) << delta_k)) mod 2^(delta_k + t);  P -= u_k << f_k

Exact iff N (hi_k - lo_k) + 1 <= 2^(delta_k + t) for every k, delta_k >= max(t, 1), and the top
field fits in what is left of the accumulator (same rule with t = 0).
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from hw.intmath import ceil_div


class PackError(ValueError):
    """A plan that is not exact or does not fit its ports; the message gives the reason."""


@dataclass(frozen=True)
class WeightLane:
    """A weight inside the word: bit `offset`, output-channel `group`, kernel `tap` (0-based)."""

    offset: int
    group: int
    tap: int


@dataclass(frozen=True)
class ActLane:
    """An activation inside the word: bit `offset`, image `row`, feature-map `column`."""

    offset: int
    row: int
    column: int


@dataclass(frozen=True)
class Field:
    """A sum of products inside the result word.

    `terms` are (weight lane index, activation lane index) pairs; `lo`..`hi` bound the field after
    ONE multiplication; `bits` is the slice read by the decoder (delta + t, or what is left on top).
    """

    offset: int
    bits: int
    terms: tuple[tuple[int, int], ...]
    lo: int
    hi: int


@dataclass(frozen=True)
class Word:
    """One multiplication: lanes, fields and the legality means used.

    `w_port`/`a_port`: width in bits of the signed port that carries weights / activations.
    `w_lo`..`w_hi` and `a_lo`..`a_hi`: range of one weight / activation as it is packed (after an
    operand split, the range of the piece). Lanes are sorted by offset, fields too.
    `c_port_flush`, `msb_flip`: port tricks of docs/packing.md (unused by the plain search).
    """

    w_port: int
    a_port: int
    weights: tuple[WeightLane, ...]
    acts: tuple[ActLane, ...]
    fields: tuple[Field, ...]
    w_lo: int
    w_hi: int
    a_lo: int
    a_hi: int
    c_port_flush: bool = False
    msb_flip: bool = False

    @property
    def groups(self) -> int:
        """Output channels per word."""
        return 1 + max(lane.group for lane in self.weights)

    @property
    def taps(self) -> int:
        """Neighbouring kernel taps per word."""
        return 1 + max(lane.tap for lane in self.weights)

    @property
    def columns(self) -> int:
        """Neighbouring feature-map columns per word."""
        return 1 + max(lane.column for lane in self.acts)

    def bias(self, chain: int) -> int:
        """Constant that makes every field non-negative after `chain` accumulations."""
        return -sum((chain * field.lo) << field.offset for field in self.fields)


@dataclass(frozen=True)
class Piece:
    """One multiplication of a plan: the bits [low, low + bits) of the split operand.

    The plan's product is sum over pieces of word(piece) * 2^low. `split` names the operand that is
    cut ("w", "a") or is None when the plan has one piece. Pieces above the lowest are signed when
    the operand is; lower pieces are unsigned.
    """

    word: Word
    split: Literal["w", "a"] | None
    low: int
    bits: int


Mode = Literal["every", "chain", "canary"]


@dataclass(frozen=True)
class Proof:
    """How exactness was shown: `method`, number of operand vectors tried, words of explanation."""

    method: Literal["exhaustive", "interval", "sampled", "z3"]
    vectors: int
    statement: str


@dataclass(frozen=True)
class PackPlan:
    """A plan for one (dsp, kernel, w_bits, a_bits, narrow) cell.

    `chain` products may be summed in the DSP before decoding; `known_bits` = t of the decode rule.
    All pieces have the same lanes' labels (groups, taps, columns), one DSP each.
    `lut_per_mac`: estimate of decode and accumulation logic, +-60 % until calibrated by synthesis.
    """

    dsp: str
    kernel: int
    w_bits: int
    a_bits: int
    narrow: bool
    technique: Literal["filter", "kernel"]
    mode: Mode
    chain: int
    known_bits: int
    pieces: tuple[Piece, ...]
    lut_per_mac: float
    proof: Proof | None = None

    @property
    def groups(self) -> int:
        return self.pieces[0].word.groups

    @property
    def taps(self) -> int:
        return self.pieces[0].word.taps

    @property
    def columns(self) -> int:
        return self.pieces[0].word.columns

    @property
    def dsps(self) -> int:
        """DSP blocks that one word occupies."""
        return len(self.pieces)

    @property
    def tap_steps(self) -> int:
        """Cycles that one kernel row of one input channel takes: ceil(kernel / taps)."""
        return ceil_div(self.kernel, self.taps)

    @property
    def macs_per_dsp(self) -> Fraction:
        """Useful multiply-accumulates per DSP and cycle: K groups columns / (tap_steps dsps)."""
        return Fraction(self.kernel * self.groups * self.columns, self.tap_steps * self.dsps)
