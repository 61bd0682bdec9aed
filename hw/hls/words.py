# SPDX-License-Identifier: Apache-2.0
"""C++ description of a packing plan: numbers that its words share, and one struct per word."""

from itertools import starmap

from hw.device import dsp
from hw.hls.cpp import constant, lookup, struct
from hw.mac_words import bias_bits, slice_bits, tally_bits, weight_lanes
from hw.packing.plan import PackPlan, Word


def plan_numbers(plan: PackPlan, lanes: int, decode_cycles: int) -> dict[str, int]:
    """Return the constants C of packed_mac.hpp for an array of `lanes` multipliers per PE.

    `decode_cycles`: for so many cycles at most an accumulator sums before it is decoded.
    """
    primitive = dsp(plan.dsp)
    return {
        "a_bits": plan.a_bits,
        "wide_bits": primitive.wide_bits,
        "narrow_bits": primitive.narrow_bits,
        "p_bits": primitive.p_bits,
        "w_lanes": weight_lanes(plan),
        "slice_bits": slice_bits(plan),
        "bias_bits": bias_bits(plan, lanes),
        "biased": plan.biased,
        "folded": plan.zero == "folded",
        "canary": plan.mode == "canary",
        "known_bits": plan.known_bits,
        "tally_bits": tally_bits(plan, decode_cycles),
        "fields": max(len(word.fields) for word in plan.words),
    }


def word_structs(plan: PackPlan, process: str) -> tuple[tuple[str, str], ...]:
    """Return (name, text) of the C++ struct of every word of the plan that `process` runs."""
    names = (f"{process}_word{index}" for index in range(len(plan.words)))
    return tuple(
        (name, struct(name, _members(plan, index, word)))
        for index, (name, word) in enumerate(zip(names, plan.words, strict=True))
    )


def _members(plan: PackPlan, index: int, word: Word) -> list[str]:
    part = plan.parts[word.part]
    least = part.zero_point(plan.zero, 0)
    scale = sum(1 << weight.offset + act.offset for weight in word.weights for act in word.acts)
    numbers = {
        "index": index,
        "w_wide": word.w_port == dsp(plan.dsp).wide_bits,
        "w_signed": part.w_lo < 0,
        "w_add": word.w_add,
        "a_low": part.a_low,
        "a_bits": part.a_bits,
        "a_sub": word.a_sub,
        "scale": part.w_low + part.a_low,
        "least": least,
        "centre": part.centre if plan.zero == "centred" else 0,
        "bias": 0 if plan.biased else -least * scale,
        "w_lanes": len(word.weights),
        "a_lanes": len(word.acts),
        "fields": len(word.fields),
    }
    outputs = [word.output(field.terms[0]) for field in word.fields]
    tables = {
        "w_offset": [lane.offset for lane in word.weights],
        "a_offset": [lane.offset for lane in word.acts],
        "a_column": [lane.column for lane in word.acts],
        "product_field": _fields_of_products(word),
        "field_offset": [field.offset for field in word.fields],
        "field_bits": [field.bits for field in word.fields],
        "field_group": [group for group, _, _ in outputs],
        "field_shift": [shift for _, _, shift in outputs],
    }
    return [*starmap(constant, numbers.items()), *starmap(lookup, tables.items())]


def _fields_of_products(word: Word) -> list[int]:
    """Return the field of every lane pair, activation lanes fastest."""
    owner = {term: index for index, field in enumerate(word.fields) for term in field.terms}
    return [owner[i, j] for i in range(len(word.weights)) for j in range(len(word.acts))]
