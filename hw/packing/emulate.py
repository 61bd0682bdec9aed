# SPDX-License-Identifier: Apache-2.0
"""Port-exact emulation of packed multiplications, vectorised over numpy int64.

The decoder sees what hardware sees: the accumulator P modulo 2^p_bits and, for `known_bits` = t,
the t low bits of every field, computed from low operand bits beside the DSP.
"""

from typing import Literal

import numpy as np

from hw.device import dsp
from hw.packing.plan import ActLane, PackError, PackPlan, Part, WeightLane, Word

Ports = Literal["check", "wrap"]


def emulate(
    plan: PackPlan, weights: np.ndarray, acts: np.ndarray, ports: Ports = "check"
) -> np.ndarray:
    """Return the outputs of a tile that the DSP and its decoder produce.

    `weights` int64 `[..., N, groups, kernel]` and unsigned `acts` `[..., N, columns]` hold the
    operands of N successive tiles, all summed; leading axes broadcast. Result `[..., groups,
    columns + kernel - 1]`: output column - tap at index column - tap + kernel - 1. N above the
    plan's chain is decoded in pieces. A word that overflows its port raises PackError ("check") or
    loses its upper bits as in silicon ("wrap").
    """
    out = np.zeros((*_leading(weights[..., 0, 0], acts[..., 0]), *_tile(plan)), np.int64)
    for word in plan.words:
        part = plan.parts[word.part]
        w = weight_slice(part, plan, weights[..., *_weight_index(word)])
        a = act_slice(part, acts[..., [lane.column for lane in word.acts]])
        sums = emulate_word(plan, word, w, a, ports) << (part.w_low + part.a_low)
        for index, field in enumerate(word.fields):
            group, _, shift = word.output(field.terms[0])
            out[..., group, shift + plan.kernel - 1] += sums[..., index]
    return out


def expected(plan: PackPlan, weights: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """Return the same outputs by the plain definition: sum of w[g, k] a[column]."""
    out = np.zeros((*_leading(weights[..., 0, 0], acts[..., 0]), *_tile(plan)), np.int64)
    for tap in range(plan.kernel):
        for column in range(plan.columns):
            products = weights[..., tap] * acts[..., column, None]
            out[..., column - tap + plan.kernel - 1] += products.sum(-2)
    return out


def _leading(weights: np.ndarray, acts: np.ndarray) -> tuple[int, ...]:
    return np.broadcast_shapes(weights.shape[:-1], acts.shape[:-1])


def _tile(plan: PackPlan) -> tuple[int, int]:
    return plan.groups, plan.columns + plan.kernel - 1


def _weight_index(word: Word) -> tuple[list[int], list[int]]:
    return [lane.group for lane in word.weights], [lane.tap for lane in word.weights]


def weight_slice(part: Part, plan: PackPlan, weights: np.ndarray) -> np.ndarray:
    """Return the slice of `weights` that `part` multiplies."""
    values = (weights + part.w_round) >> part.w_low
    if part.w_low + part.w_bits == plan.w_bits:
        return values  # the top part keeps the sign
    values = values & ((1 << part.w_bits) - 1)
    return values - ((values > part.w_hi).astype(np.int64) << part.w_bits)


def act_slice(part: Part, acts: np.ndarray) -> np.ndarray:
    """Return the slice of `acts` that `part` multiplies."""
    return (acts >> part.a_low) & part.a_hi


def emulate_word(
    plan: PackPlan, word: Word, weights: np.ndarray, acts: np.ndarray, ports: Ports = "check"
) -> np.ndarray:
    """Return the sums v `[..., fields]` of N multiplications of one word.

    `weights` `[..., N, weight lanes]`, `acts` `[..., N, activation lanes]`: slices of the part.
    """
    count = max(weights.shape[-2], acts.shape[-2])
    weights, acts = (_stretch(values, count) for values in (weights, acts))
    decode = canary if plan.mode == "canary" else direct
    sums = constants(plan, word, weights)
    for first in range(0, count, plan.chain):
        run = slice(first, first + plan.chain)
        sums = sums + decode(plan, word, weights[..., run, :], acts[..., run, :], ports)
    return sums


def _stretch(values: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(values, (*values.shape[:-2], count, values.shape[-1]))


def constants(plan: PackPlan, word: Word, weights: np.ndarray) -> np.ndarray:
    """Return sum of z(w) `[..., fields]`, what a decoded field lacks."""
    least = _least(plan, word, weights)
    return per_field([total(sum(least[..., i] for i, _ in f.terms)) for f in word.fields])


def per_field(values: list[np.ndarray]) -> np.ndarray:
    """Return arrays of the fields as one `[..., fields]`, in memory one field after the other."""
    return np.moveaxis(np.stack(np.broadcast_arrays(*values)), 0, -1)


def total(values: np.ndarray) -> np.ndarray:
    """Return the sum over N, the last axis."""
    return values[..., 0] if values.shape[-1] == 1 else values.sum(-1)


def _least(plan: PackPlan, word: Word, weights: np.ndarray) -> np.ndarray:
    return plan.parts[word.part].zero_point(plan.zero, weights)


def increments(
    plan: PackPlan, word: Word, weights: np.ndarray, acts: np.ndarray, ports: Ports
) -> np.ndarray:
    """Return what each product adds to P `[..., N]`: equation (P) of `hw.packing.plan`."""
    value = combine(word.weights, weights)
    w_word = to_port(value + word.w_add, word.w_port, ports)
    a_word = pre_add(combine(word.acts, acts), -word.a_sub, word.a_port, ports)
    ones = sum(1 << lane.offset for lane in word.acts)
    bias = word.a_sub * value - combine(word.weights, _least(plan, word, weights)) * ones
    return w_word * a_word + (bias - word.w_add * a_word)


def combine(lanes: tuple[WeightLane, ...] | tuple[ActLane, ...], values: np.ndarray) -> np.ndarray:
    """Return sum of values[..., lane] 2^offset."""
    return sum(values[..., index] << lane.offset for index, lane in enumerate(lanes))


def pre_add(words: np.ndarray, constant: int, port_bits: int, ports: Ports) -> np.ndarray:
    """Return `words` + `constant` as the pre-adder of a signed port of `port_bits` bits.

    Its two registers are as wide as the port, and so is the sum: all are modulo 2^port_bits, so
    that an unsigned word that fills the port comes out right if the sum fits.
    """
    to_port(words + constant, port_bits, ports)  # in mode "check", the true sum
    base, addend = (to_port(np.asarray(value), port_bits, "wrap") for value in (words, constant))
    return to_port(base + addend, port_bits, "wrap")


def to_port(words: np.ndarray, port_bits: int, ports: Ports) -> np.ndarray:
    """Return `words` as a signed port of `port_bits` bits carries them."""
    half = 1 << (port_bits - 1)
    wrapped = ((words + half) & ((1 << port_bits) - 1)) - half
    if ports == "check" and not np.array_equal(wrapped, words):
        first = words[tuple(np.argwhere(wrapped != words)[0])]
        raise PackError(
            f"word {first} does not fit a signed {port_bits}-bit port ({-half}..{half - 1})"
        )
    return wrapped


def known_low_bits(
    plan: PackPlan, word: Word, weights: np.ndarray, acts: np.ndarray
) -> list[np.ndarray]:
    """Return u mod 2^t of every product `[..., N]`, per field, from low operand bits only."""
    mask = (1 << plan.known_bits) - 1
    low, acts, least = (
        (values & mask).astype(np.uint8)  # a byte: t low bits do not need more, and it is fast
        for values in (weights, acts, _least(plan, word, weights))
    )
    sums = (
        sum(low[..., i] * acts[..., j] for i, j in field.terms)
        - sum(least[..., i] for i, _ in field.terms)
        for field in word.fields
    )
    return [(value & mask).astype(np.int64) for value in sums]


def direct(
    plan: PackPlan, word: Word, weights: np.ndarray, acts: np.ndarray, ports: Ports
) -> np.ndarray:
    """Return u `[..., fields]` of all N products, decoded once: the rule of `hw.packing.plan`."""
    rest = total(increments(plan, word, weights, acts, ports)) & ((1 << dsp(plan.dsp).p_bits) - 1)
    known = [total(value) for value in known_low_bits(plan, word, weights, acts)]
    rest, sums = rest >> word.fields[0].offset, []  # from here on, what lies above the field read
    for index, field in enumerate(word.fields):
        last = index + 1 == len(word.fields)
        delta = 0 if last else word.fields[index + 1].offset - field.offset
        value = rest
        if plan.known_bits and not last:
            value = rest - ((known[index + 1] & ((1 << plan.known_bits) - 1)) << delta)
        sums.append(value & ((1 << field.bits) - 1))
        rest -= sums[-1]
        rest >>= delta
    return per_field(sums)


def canary(
    plan: PackPlan, word: Word, weights: np.ndarray, acts: np.ndarray, ports: Ports
) -> np.ndarray:
    """Return u `[..., fields]` of all N products, carries between lanes counted in every cycle.

    Lane k is the slice of P between f_k and f_(k+1). Its t low bits after a product are those
    before it, plus the product's own (known), plus the carry out of the lane below, which is
    therefore known modulo 2^t; the lanes' values follow from the counted carries. The top lane
    takes in carries beside its own value, so that value is read modulo its width.
    """
    mask, t = (1 << dsp(plan.dsp).p_bits) - 1, plan.known_bits
    after = np.cumsum(increments(plan, word, weights, acts, ports), axis=-1) & mask
    before = np.concatenate([np.zeros_like(after[..., :1]), after[..., :-1]], axis=-1)
    known = known_low_bits(plan, word, weights, acts)
    offsets = [field.offset for field in word.fields]
    carries = [
        (((after >> offset) - (before >> offset) - low) & ((1 << t) - 1)).sum(-1)
        for offset, low in zip(offsets, known, strict=True)
    ]
    p, sums = after[..., -1], []
    for k, (low, high) in enumerate(zip(offsets, [*offsets[1:], None], strict=True)):
        entered = carries[k] if k else 0
        if high is None:
            sums.append(((p >> low) - entered) & (mask >> low))
        else:
            lane = (p >> low) & ((1 << (high - low)) - 1)
            sums.append(lane + (carries[k + 1] << (high - low)) - entered)
    return per_field(sums)
