# SPDX-License-Identifier: Apache-2.0
"""C++ description of a packing plan: one struct for every multiplication."""

from itertools import starmap

from hw.device import dsp
from hw.hls.build_plan import HlsError
from hw.hls.cpp import constant, lookup, struct
from hw.packing.plan import PackPlan, Piece, Word


def piece_structs(plan: PackPlan, process: str) -> tuple[tuple[str, str], ...]:
    """Return (name, text) of the C++ struct of every piece of the plan that `process` runs.

    Raises HlsError for means of packing that the templates do not implement.
    """
    check_supported(plan, process)
    names = (f"{process}_piece{index}" for index in range(plan.dsps))
    return tuple(
        (name, struct(name, _members(plan, piece)))
        for name, piece in zip(names, plan.pieces, strict=True)
    )


def check_supported(plan: PackPlan, process: str) -> None:
    """Raise HlsError unless packed_mac.hpp can run `plan`."""
    words = [piece.word for piece in plan.pieces]
    weight_lanes = {(g, t) for g in range(plan.groups) for t in range(plan.taps)}
    act_lanes = {(0, c) for c in range(plan.columns)}
    rules = (
        (plan.mode in ("every", "chain"), f"mode '{plan.mode}'"),
        (not any(word.c_port_flush for word in words), "C-port flush"),
        (not any(word.msb_flip for word in words), "MSB flip"),
        (
            all({(lane.group, lane.tap) for lane in word.weights} == weight_lanes for word in words)
            and all({(lane.row, lane.column) for lane in word.acts} == act_lanes for word in words),
            "lanes that leave gaps or span rows",
        ),
    )
    for supported, what in rules:
        if not supported:
            raise HlsError(
                f"process '{process}': its packing plan uses {what}; the C++ templates run "
                "plans of modes every and chain with gapless lanes of one row"
            )


def _members(plan: PackPlan, piece: Piece) -> list[str]:
    word, primitive = piece.word, dsp(plan.dsp)
    numbers = {
        "w_port": word.w_port,
        "a_port": word.a_port,
        "p_bits": primitive.p_bits,
        "known_bits": plan.known_bits,
        "w_low": piece.low if piece.split == "w" else 0,
        "w_bits": piece.bits if piece.split == "w" else plan.w_bits,
        "w_signed": word.w_lo < 0,
        "a_low": piece.low if piece.split == "a" else 0,
        "a_bits": piece.bits if piece.split == "a" else plan.a_bits,
        "w_lanes": len(word.weights),
        "a_lanes": len(word.acts),
        "fields": len(word.fields),
    }
    outputs = [_output(word, index) for index in range(len(word.fields))]
    tables = {
        "w_offset": [lane.offset for lane in word.weights],
        "w_group": [lane.group for lane in word.weights],
        "w_tap": [lane.tap for lane in word.weights],
        "a_offset": [lane.offset for lane in word.acts],
        "a_column": [lane.column for lane in word.acts],
        "product_field": _fields_of_products(word),
        "field_offset": [field.offset for field in word.fields],
        "field_bits": [field.bits for field in word.fields],
        "field_lo": [field.lo for field in word.fields],
        "field_group": [group for group, _ in outputs],
        "field_shift": [shift for _, shift in outputs],
    }
    return [*starmap(constant, numbers.items()), *starmap(lookup, tables.items())]


def _fields_of_products(word: Word) -> list[int]:
    """Return the field of every lane pair, activation lanes fastest."""
    owner = {term: index for index, field in enumerate(word.fields) for term in field.terms}
    return [owner[i, j] for i in range(len(word.weights)) for j in range(len(word.acts))]


def _output(word: Word, index: int) -> tuple[int, int]:
    """Return (group, column - tap) of the output that field `index` belongs to."""
    weight, act = word.fields[index].terms[0]
    lane = word.weights[weight]
    return lane.group, word.acts[act].column - lane.tap
