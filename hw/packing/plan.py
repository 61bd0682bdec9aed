# SPDX-License-Identifier: Apache-2.0
"""PackPlan: a complete, machine-readable description of how small products share one DSP.

A plan covers a *tile*: `kernel` taps of a kernel row, `groups` output channels and `columns`
feature-map columns, all their products. One DSP runs the plan's words in turn, one a cycle. A word
multiplies every one of its weight lanes with every one of its activation lanes; weights sit at bit
offsets o_i on one port, activations at p_j on the other:

    W = sum_i w_i 2^o_i,   A = sum_j a_j 2^p_j,   W A = sum_f v_f 2^f,   f = o_i + p_j

A weight lane has a label (group, tap), an activation lane (row, column). Products may share a field
only if they belong to one output (group, row, column - tap). Activations are unsigned codes 0..M;
signed ones enter as a + 2^(a_bits - 1), and the difference is a constant of the weights.

What P holds. A zero point z(w) makes every product w a - z(w) >= 0, so that no field borrows:

    plain      M min(0, w_lo)                                   the same for all weights
    folded     M min(0, w)                                      the least, as the weight is known
    centred    c w + min over w, a of w (a - c),  c = 2^(a_bits - 1)        the port carries a - c

With the ports' shifts W' = W + w_add (C-port flush) and A' = A - a_sub (flipped top bit or,
centred, a_sub = c sum_j 2^p_j), every product adds

    W' A' + C,   C = -w_add A' + a_sub W + sum_i -z(w_i) 2^o_i sum_j 2^p_j                       (P)

which is sum_f u_f 2^f with u_f = sum over the field of (w a - z(w)) in [0, spread_f]. So a decoded
field is u_f, and v_f = u_f + sum z(w): the sum of all z(w) of an output is a constant of its
weights, which the array's partial sums start from.

Decoding after N products ("every": N = 1, "chain": N <= chain). From low to high with delta_k =
f_(k+1) - f_k and the t low bits of u_(k+1) known from logic outside the DSP:

    u_k = ((P >> f_k) - ((u_(k+1) mod 2^t) << delta_k)) mod 2^(delta_k + t);  P -= u_k << f_k

Exact iff N spread_k < 2^(delta_k + t), delta_k >= max(t, 1), and the top field fits in what is left
of the accumulator (the same rule with t = 0). "canary": docs/packing.md, section 4.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeVar, get_args

import numpy as np

Mode = Literal["every", "chain", "canary"]
Zero = Literal["plain", "folded", "centred"]
ZEROS: tuple[Zero, ...] = get_args(Zero)
Weights = TypeVar("Weights", int, np.ndarray)


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

    `terms` are (weight lane index, activation lane index) pairs; `spread` bounds u_f after ONE
    product; `bits` is the slice read by the decoder (delta + t, or what is left on top).
    """

    offset: int
    bits: int
    terms: tuple[tuple[int, int], ...]
    spread: int


@dataclass(frozen=True)
class Part:
    """Slices of both operands; a product is sum over parts of (slices' product) 2^(w_low + a_low).

    Weight slice: (w + w_round) >> w_low, cut to `w_bits` bits where a part lies above it; it spans
    `w_lo`..`w_hi`, signed iff w_lo < 0. Activation slice: bits [a_low, a_low + a_bits).
    `w_round` = 2^(w_low - 1) where the part below is signed, else 0.
    """

    w_low: int
    w_bits: int
    w_round: int
    w_lo: int
    w_hi: int
    a_low: int
    a_bits: int

    @property
    def a_hi(self) -> int:
        """The greatest activation slice, M."""
        return (1 << self.a_bits) - 1

    @property
    def centre(self) -> int:
        """What a centred plan takes off every activation slice, c."""
        return (self.a_hi + 1) // 2

    def zero_point(self, zero: Zero, weight: Weights) -> Weights:
        """Return z(w) of weight slices (an integer or an array of them)."""
        match zero:
            case "plain":
                return self.a_hi * min(0, self.w_lo) + 0 * weight
            case "folded":
                return self.a_hi * (weight * (weight < 0))
            case "centred":
                return self.centre * weight + min(self._centred_corners())

    def spread(self, zero: Zero) -> int:
        """Return the greatest w a - z(w) of one product."""
        match zero:
            case "plain":
                return self.a_hi * (max(self.w_hi, 0) - min(self.w_lo, 0))
            case "folded":
                return self.a_hi * max(-self.w_lo, self.w_hi)
            case "centred":
                return max(self._centred_corners()) - min(self._centred_corners())

    def _centred_corners(self) -> list[int]:
        acts = -self.centre, self.a_hi - self.centre
        return [weight * act for weight in (self.w_lo, self.w_hi) for act in acts]


@dataclass(frozen=True)
class Word:
    """One multiplication of slices of part `part` (its index in the plan).

    `w_port`/`a_port`: width in bits of the signed port that carries weights / activations. Lanes
    are sorted by offset, fields too. `w_add` (C-port flush) and `a_sub` (flipped top bit, centred
    activations): see (P), 0 where unused.
    """

    part: int
    w_port: int
    a_port: int
    weights: tuple[WeightLane, ...]
    acts: tuple[ActLane, ...]
    fields: tuple[Field, ...]
    w_add: int = 0
    a_sub: int = 0

    @property
    def macs(self) -> int:
        """Products of one multiplication (of slices, where an operand is split)."""
        return len(self.weights) * len(self.acts)

    def output(self, term: tuple[int, int]) -> tuple[int, int, int]:
        """Return the output (group, row, column - tap) that a pair of lanes belongs to."""
        weight, act = self.weights[term[0]], self.acts[term[1]]
        return weight.group, act.row, act.column - weight.tap


@dataclass(frozen=True)
class Proof:
    """How exactness was shown: `method`, number of operand vectors emulated, explanation."""

    method: Literal["exhaustive", "interval", "z3"]
    vectors: int
    statement: str


@dataclass(frozen=True)
class PackPlan:
    """A plan for one (dsp, kernel, w_bits, a_bits, narrow) cell.

    `chain`: products that may be summed in P before decoding; `known_bits` = t of the decode rule.
    `groups` x `kernel` x `columns` is the tile. `parts` hold the operands' slices, `words` every
    product of every part exactly once; they run in turn on one multiplier. `multipliers` of a DSP
    block run side by side. `lut_per_mac`: estimate of decoding, accumulation and known bits.
    """

    dsp: str
    kernel: int
    w_bits: int
    a_bits: int
    narrow: bool
    mode: Mode
    chain: int
    known_bits: int
    zero: Zero
    groups: int
    columns: int
    parts: tuple[Part, ...]
    words: tuple[Word, ...]
    multipliers: int = 1
    lut_per_mac: float = 0.0
    proof: Proof | None = None

    @property
    def word_steps(self) -> int:
        """Cycles that one tile takes: words in turn."""
        return len(self.words)

    @property
    def macs_per_dsp(self) -> Fraction:
        """Useful multiply-accumulates per DSP and cycle: K groups columns multipliers / words."""
        macs = self.kernel * self.groups * self.columns
        return Fraction(macs * self.multipliers, len(self.words))

    @property
    def biased(self) -> bool:
        """Whether C of (P) depends on the weights, so that it is stored beside them."""
        flipped = self.zero == "plain" and any(word.a_sub for word in self.words)
        return self.zero == "folded" or flipped
