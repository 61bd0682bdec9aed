# SPDX-License-Identifier: Apache-2.0
"""Proof of the decoders by z3: any field values within their spreads, not operands one by one.

The formulas are written from P, its bits and its lanes, without the inequalities of `rules`; so
they prove these as well as a plan.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from types import ModuleType

from hw.device import dsp
from hw.packing.plan import PackError, PackPlan, Proof, Word
from hw.packing.prove import alone
from hw.packing.rules import describe, malformed, port_violation


def smt(plan: PackPlan) -> PackPlan:
    """Return `plan` with a z3 Proof; raise PackError with the fields of a word that it loses.

    "every" and "chain": all sums of up to `chain` products. "canary": one step from any state of
    the accumulator, and the top lane's capacity. Ports are compared in exact integers. Raises
    PackError if z3 is not installed.
    """
    _z3()
    problem = malformed(plan)
    for word in () if problem else plan.words:
        problem = problem or port_violation(plan, word) or lost(alone(plan, word))
    if problem:
        raise PackError(f"{describe(plan)}: {problem}")
    return replace(plan, proof=Proof("z3", 0, "no field values within their spreads are lost"))


def _z3() -> ModuleType:
    try:
        import z3
    except ImportError as error:
        raise PackError(
            "proofs by z3 need the z3-solver package: pip install mixq-jax[proof]"
        ) from error
    return z3


@cache
def lost(plan: PackPlan) -> str | None:
    """Return field values that a plan of one word loses, None if z3 shows that none exist.

    Lane by lane first (docs/packing.md, section 11), which is a matter of milliseconds. Where that
    fails, one formula of the whole word finds the values, or that there are none.
    """
    (word,), canary = plan.words, plan.mode == "canary"
    top = word.fields[-1]
    if canary and plan.chain * top.spread >= 1 << top.bits:
        return f"the top field's sums reach {plan.chain * top.spread} in {top.bits} bits"
    if all(_counted_lanes(plan, word) if canary else _read_slices(plan, word)):
        return None
    limits = [(1 if canary else plan.chain) * field.spread for field in word.fields]
    return _lost_values(plan, word, limits, _miscounted if canary else _misread)


def _lost_values(plan: PackPlan, word: Word, limits: list[int], formula) -> str | None:
    z3, bits = _z3(), dsp(plan.dsp).p_bits
    if max(limits) >= 1 << bits:
        return f"the fields' sums reach {max(limits)}, P has {bits} bits"
    sums = [z3.BitVec(f"u{k}", bits) for k in range(len(limits))]
    solver = z3.Solver()
    solver.add(*(z3.ULE(u, n) for u, n in zip(sums, limits, strict=True)))
    solver.add(formula(z3, plan, word, sums, bits))
    if solver.check() == z3.unsat:
        return None
    model = solver.model()
    values = [model.eval(u, model_completion=True).as_long() for u in sums]
    return f"z3 finds that the field values {values} are decoded wrongly"


# One lane after the other ------------------------------------------------------------------------


def _read_slices(plan: PackPlan, word: Word) -> Iterator[bool]:
    """Yield for every field whether it is read right once the fields below it are gone."""
    p_bits, fields = dsp(plan.dsp).p_bits, word.fields
    offsets = [*(field.offset for field in fields), p_bits, p_bits]
    limits = [*(plan.chain * field.spread for field in fields), 0]
    for k, field in enumerate(fields):
        delta, next_delta = (high - low for low, high in pairwise(offsets[k : k + 3]))
        inside = field.offset + field.bits <= p_bits
        yield inside and _is_read(
            *limits[k : k + 2], delta, next_delta, plan.known_bits, field.bits
        )


@cache
def _is_read(u_max: int, v_max: int, delta: int, next_delta: int, t: int, bits: int) -> bool:
    """Prove that u is what the decoder reads: below v, below anything 2^(delta + next_delta)."""
    z3 = _z3()
    width = max(bits, u_max.bit_length(), v_max.bit_length(), delta + next_delta + 1)
    u, v, above = (z3.BitVec(name, width) for name in ("u", "v", "above"))
    rest = u + (v << delta) + (above << (delta + next_delta))
    value = (rest - ((v & ((1 << t) - 1)) << delta)) & ((1 << bits) - 1)
    return _never(z3, z3.ULE(u, u_max), z3.ULE(v, v_max), value != u)


def _counted_lanes(plan: PackPlan, word: Word) -> Iterator[bool]:
    """Yield for every lane whether its carry is counted right and how many it passes on."""
    most = 0
    for k, (field, above) in enumerate(pairwise((*word.fields, None))):
        bits = field.bits if above is None else above.offset - field.offset
        passed = ((1 << bits) - 1 + field.spread + most) >> bits
        yield _is_counted(field.spread, most, passed, bits, plan.known_bits if k else 0)
        most = passed


@cache
def _is_counted(u_max: int, most: int, passed: int, bits: int, t: int) -> bool:
    """Prove that t bits count up to `most` carries into a lane, `passed` at most out of it."""
    z3 = _z3()
    width = max(bits, u_max.bit_length(), most.bit_length(), t) + 2
    lane, u, carry = (z3.BitVec(name, width) for name in ("lane", "u", "carry"))
    total = lane + u + carry
    seen = ((total & ((1 << bits) - 1)) - lane - u) & ((1 << t) - 1)
    ranges = z3.ULT(lane, 1 << bits), z3.ULE(u, u_max), z3.ULE(carry, most)
    return _never(z3, *ranges, z3.Or(z3.UGT(z3.LShR(total, bits), passed), seen != carry))


def _never(z3: ModuleType, *formulas) -> bool:
    solver = z3.Solver()
    solver.add(*formulas)
    return solver.check() == z3.unsat


# The whole word ----------------------------------------------------------------------------------


def _total(word: Word, sums: list):
    return sum(u << field.offset for u, field in zip(sums, word.fields, strict=True))


def _misread(z3: ModuleType, plan: PackPlan, word: Word, sums: list, bits: int):
    """Return the formula that the decoder of "every" and "chain" returns other sums."""
    rest, wrong, t = _total(word, sums), [], plan.known_bits
    for k, field in enumerate(word.fields):
        value = z3.LShR(rest, field.offset)
        if k + 1 < len(word.fields):
            delta = word.fields[k + 1].offset - field.offset
            value = value - ((sums[k + 1] & ((1 << t) - 1)) << delta)
        value = value & ((1 << field.bits) - 1)
        rest = rest - (value << field.offset)
        wrong.append(value != sums[k])
    return z3.Or(wrong)


def _miscounted(z3: ModuleType, plan: PackPlan, word: Word, sums: list, bits: int):
    """Return the formula that after one product a carry differs from the count of a canary."""
    before, mask = z3.BitVec("p", bits), (1 << plan.known_bits) - 1
    after, carry, wrong = before + _total(word, sums), z3.BitVecVal(0, bits), []
    for (low, high), added, known in zip(pairwise(word.fields), sums[:-1], sums[1:], strict=True):
        delta = high.offset - low.offset
        lane = z3.LShR(before, low.offset) & ((1 << delta) - 1)
        carry = z3.LShR(lane + added + carry, delta)
        seen = z3.LShR(after, high.offset) - z3.LShR(before, high.offset) - known
        wrong.append(carry != (seen & mask))
    return z3.Or(wrong)
