# SPDX-License-Identifier: Apache-2.0
"""The rules of docs/packing.md in exact integers: is a plan well formed, and is it exact?"""

from collections import Counter
from itertools import pairwise, product

import numpy as np

from hw.device import Dsp, dsp
from hw.intmath import ceil_div, weight_range
from hw.packing.emulate import act_slice, weight_slice
from hw.packing.plan import Field, PackError, PackPlan, Word


def check(plan: PackPlan) -> None:
    """Raise PackError naming the first broken rule of `plan`."""
    problem = malformed(plan) or _first(violation(plan, word) for word in plan.words)
    if problem:
        raise PackError(f"{describe(plan)}: {problem}")


def describe(plan: PackPlan) -> str:
    """Return a plan's name for messages."""
    return (
        f"'{plan.mode}' plan for {plan.dsp} kernel {plan.kernel} w{plan.w_bits}a{plan.a_bits} "
        f"({plan.groups} groups x {plan.columns} columns, {len(plan.words)} words, "
        f"chain {plan.chain}, {plan.known_bits} known bits)"
    )


def _first(problems) -> str | None:
    return next((problem for problem in problems if problem), None)


# Inequalities: a word that keeps them is exact ---------------------------------------------------


def violation(plan: PackPlan, word: Word) -> str | None:
    """Return the first broken inequality of a word of a well-formed plan, None if it is exact."""
    carries = carry_violation(plan, word) if plan.mode == "canary" else None
    return port_violation(plan, word) or carries or slice_violation(plan, word)


def port_violation(plan: PackPlan, word: Word) -> str | None:
    """Return which word overflows its signed port, in words: docs/packing.md, theorem 1."""
    part = plan.parts[word.part]
    for name, port, lanes, lo, hi, shift in (
        ("weight", word.w_port, word.weights, part.w_lo, part.w_hi, word.w_add),
        ("activation", word.a_port, word.acts, 0, part.a_hi, -word.a_sub),
    ):
        ones = sum(1 << lane.offset for lane in lanes)
        least, greatest = lo * ones + shift, hi * ones + shift
        if least < -(1 << (port - 1)) or greatest >= 1 << (port - 1):
            return f"{name} words span {least}..{greatest}, too wide for a signed {port}-bit port"
    return None


def slice_violation(plan: PackPlan, word: Word) -> str | None:
    """Return which field outgrows the bits it is read from: theorem 2, and the top of theorem 3."""
    for field in word.fields[-1:] if plan.mode == "canary" else word.fields:
        span = plan.chain * field.spread
        if span >= 1 << field.bits:
            return f"field at bit {field.offset} reaches {span} in a slice of {field.bits} bits"
    return None


def carry_violation(plan: PackPlan, word: Word) -> str | None:
    """Return which lane takes in more carries a product than t bits count: theorem 3."""
    counted, reach = (1 << plan.known_bits) - 1, 0
    for field, above in pairwise(word.fields):
        reach += field.spread << field.offset
        carries = ceil_div(reach, 1 << above.offset)
        if carries > counted:
            return (
                f"up to {carries} carries a product enter the lane at bit {above.offset}, "
                f"{plan.known_bits} known bits count {counted}"
            )
    return None


# Form: what a plan must be before the inequalities mean anything ---------------------------------


def malformed(plan: PackPlan) -> str | None:
    """Return why the parts, words, lanes and fields of `plan` do not belong together, else None."""
    return (
        _cell_problem(plan)
        or _parts_problem(plan)
        or _first(_word_problem(plan, word, dsp(plan.dsp)) for word in plan.words)
        or _coverage_problem(plan)
    )


def _cell_problem(plan: PackPlan) -> str | None:
    positive = (plan.kernel, plan.groups, plan.columns, plan.multipliers, plan.a_bits)
    if min(positive) < 1 or plan.known_bits < 0:
        return "kernel, groups, columns, multipliers and a_bits start at 1, known_bits at 0"
    if plan.lut_per_mac < 0:
        return f"lut_per_mac {plan.lut_per_mac} is negative"
    if plan.w_bits < 1 + plan.narrow:
        return f"weights of {plan.w_bits} bits (narrow: {plan.narrow}) have no values"
    device = dsp(plan.dsp)
    if plan.multipliers > device.multipliers:
        return f"{device.name} has {device.multipliers} multipliers, not {plan.multipliers}"
    if device.summed > (1 if plan.mode == "canary" else plan.chain):
        return f"{device.name} adds up {device.summed} products a cycle, none can be read alone"
    if plan.mode != "every" and not device.accumulates:
        return f"{device.name} does not accumulate, so that only mode 'every' can be read"
    if plan.mode == "canary" and not device.w_mux:
        return f"mode 'canary' adds C to every product, {device.name} has no ALU operand for it"
    chains = {"every": plan.chain == 1, "chain": plan.chain > 1, "canary": plan.chain >= 1}
    if not chains.get(plan.mode, False) or plan.chain != int(plan.chain):
        return f"mode '{plan.mode}' with chain {plan.chain} is unknown"
    return None


def _parts_problem(plan: PackPlan) -> str | None:
    """Add up the parts of every product there is."""
    w_lo, w_hi = weight_range(plan.w_bits, plan.narrow)
    weights, acts = np.arange(w_lo, w_hi + 1), np.arange(1 << plan.a_bits)
    total = np.zeros((len(weights), len(acts)), np.int64)
    for index, part in enumerate(plan.parts):
        if min(part.w_low, part.w_bits - 1, part.w_round, part.a_low, part.a_bits - 1) < 0:
            return f"part {index} has negative bit positions"
        if part.w_low + part.w_bits > plan.w_bits or part.a_low + part.a_bits > plan.a_bits:
            return f"part {index} reaches beyond the operands' bits"
        w, a = weight_slice(part, plan, weights), act_slice(part, acts)
        found, given = (w.min(), w.max(), a.max()), (part.w_lo, part.w_hi, part.a_hi)
        if found != given:
            return f"part {index} holds slices {found[0]}..{found[1]} x 0..{found[2]}, not {given}"
        total += np.multiply.outer(w << part.w_low, a << part.a_low)
    if not np.array_equal(total, np.multiply.outer(weights, acts)):
        return "the parts do not add up to the product of the operands"
    return None


def _word_problem(plan: PackPlan, word: Word, device: Dsp) -> str | None:
    if not 0 <= word.part < len(plan.parts):
        return f"a word names part {word.part} of {len(plan.parts)}"
    if sorted((word.w_port, word.a_port)) != sorted((device.wide_bits, device.narrow_bits)):
        return f"{device.name} has no ports of {word.w_port} and {word.a_port} bits"
    if word.w_add and not (device.w_mux or plan.mode == "every"):
        return f"w_add needs a fourth ALU operand, which {device.name} lacks, or mode 'every'"
    for lanes in (word.weights, word.acts):
        if (
            not lanes
            or lanes[0].offset < 0
            or any(b.offset <= a.offset for a, b in pairwise(lanes))
        ):
            return f"lanes at bits {[lane.offset for lane in lanes]} are not in ascending order"
    return (
        _a_sub_problem(plan, word)
        or _label_problem(plan, word)
        or _fields_problem(plan, word, device)
    )


def _a_sub_problem(plan: PackPlan, word: Word) -> str | None:
    flipped, ones = 1 << (word.a_port - 1), sum(1 << lane.offset for lane in word.acts)
    centre = plan.parts[word.part].centre * ones
    if plan.zero == "centred" and word.a_sub != centre:
        return f"a_sub {word.a_sub} does not centre the activations, {centre} does"
    if plan.zero != "centred" and word.a_sub not in (0, flipped):
        return f"a_sub {word.a_sub} is not the top bit of a {word.a_port}-bit port"
    return None


def _label_problem(plan: PackPlan, word: Word) -> str | None:
    for lane in word.weights:
        if not (0 <= lane.group < plan.groups and 0 <= lane.tap < plan.kernel):
            return f"weight lane (group {lane.group}, tap {lane.tap}) lies outside the tile"
    for lane in word.acts:
        if lane.row != 0 or not 0 <= lane.column < plan.columns:
            return f"activation lane (row {lane.row}, column {lane.column}) lies outside the tile"
    return None


def _fields_problem(plan: PackPlan, word: Word, device: Dsp) -> str | None:
    terms = sorted(term for field in word.fields for term in field.terms)
    if terms != list(product(range(len(word.weights)), range(len(word.acts)))):
        return "the fields do not hold every product exactly once"
    least, t = max(plan.known_bits, 1), plan.known_bits
    offsets = [*(field.offset for field in word.fields), device.p_bits]
    gaps = [above - offset for offset, above in pairwise(offsets)]
    if min(gaps) < least:
        return f"fields at bits {offsets[:-1]} of {device.p_bits} are closer than {least} bits"
    bits = [*(gap + t for gap in gaps[:-1]), gaps[-1]]
    if [field.bits for field in word.fields] != bits:
        return f"slices {[field.bits for field in word.fields]} should be {bits}"
    return _first(_field_problem(plan, word, field) for field in word.fields)


def _field_problem(plan: PackPlan, word: Word, field: Field) -> str | None:
    offsets = {word.weights[i].offset + word.acts[j].offset for i, j in field.terms}
    outputs = {word.output(term) for term in field.terms}
    spread = len(field.terms) * plan.parts[word.part].spread(plan.zero)
    if offsets != {field.offset}:
        return f"field at bit {field.offset} has products at bits {sorted(offsets)}"
    if len(outputs) > 1:
        return f"field at bit {field.offset} mixes the outputs {sorted(outputs)}"
    if field.spread != spread:
        return f"field at bit {field.offset} has spread {field.spread}, not {spread}"
    return None


def _coverage_problem(plan: PackPlan) -> str | None:
    tile = Counter(product(range(plan.groups), range(plan.kernel), range(plan.columns)))
    for index in range(len(plan.parts)):
        found = Counter(
            (weight.group, weight.tap, act.column)
            for word in plan.words
            if word.part == index
            for weight, act in product(word.weights, word.acts)
        )
        if found != tile:
            missing, twice = sorted((tile - found).elements()), sorted((found - tile).elements())
            return (
                f"part {index} misses the products (group, tap, column) {missing[:3]} of the tile "
                f"and repeats {twice[:3]}"
            )
    return None
