# SPDX-License-Identifier: Apache-2.0
"""Plans as JSON objects and as a table of rates.

Weights are signed, activations unsigned codes 0..2^a - 1. Signed activations take the same plans:
they enter as code = value + 2^(a - 1), and the difference is a constant of the weights.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction

from hw.packing.cost import ERROR_BAND
from hw.packing.plan import PackPlan, Word
from hw.packing.published import WIDTHS, mean_ratio, published

Cells = Mapping[tuple[int, int], PackPlan]


def as_json(plan: PackPlan) -> dict:
    """Return a plan as JSON values; the words run in turn on one DSP over one tile.

    The tile is `kernel` taps x `groups` x `columns`. "lut_error" is the relative error of
    "lut_per_mac" that nine of ten plans stay below. A word's "part" tells which slices of a split
    operand it multiplies; "w_add" and "a_sub" are what its C-port flush and MSB flip put into the
    words of the ports; where "zero" is "centred", the MSB of every activation is flipped.
    """
    return {
        "dsp": plan.dsp,
        "kernel": plan.kernel,
        "w": plan.w_bits,
        "a": plan.a_bits,
        "macs_per_dsp": float(plan.macs_per_dsp),
        "mode": plan.mode,
        "t": plan.known_bits,
        "chain": plan.chain,
        "lut_per_mac": round(plan.lut_per_mac, 3),
        "lut_error": ERROR_BAND,
        "narrow": plan.narrow,
        "zero": plan.zero,
        "groups": plan.groups,
        "columns": plan.columns,
        "multipliers": plan.multipliers,
        "words": [_word(word, len(plan.parts)) for word in plan.words],
        "split": _split(plan),
        "proof": plan.proof and asdict(plan.proof),
    }


def _word(word: Word, parts: int) -> dict:
    return {
        "part": ("low", "high")[word.part] if parts > 1 else "whole",
        "w_port": word.w_port,
        "w_offsets": [lane.offset for lane in word.weights],
        "w_labels": [[lane.group, lane.tap] for lane in word.weights],
        "a_port": word.a_port,
        "a_offsets": [lane.offset for lane in word.acts],
        "a_labels": [[lane.row, lane.column] for lane in word.acts],
        "c_port_flush": bool(word.w_add),
        "msb_flip": bool(word.a_sub),
        "w_add": word.w_add,
        "a_sub": word.a_sub,
        "fields": [
            {"offset": field.offset, "bits": field.bits, "terms": [list(t) for t in field.terms]}
            for field in word.fields
        ],
    }


def _split(plan: PackPlan) -> dict | None:
    """Return the operand that is cut, the bits of its lower slice, whether that one is signed."""
    if len(plan.parts) == 1:
        return None
    lower, upper = plan.parts
    if upper.w_low:
        return {"operand": "w", "low_bits": upper.w_low, "signed_low": lower.w_lo < 0}
    return {"operand": "a", "low_bits": upper.a_low, "signed_low": False}


def grid(cells: Cells) -> tuple[tuple[Fraction, ...], ...]:
    """Return the rates [w - 2][a - 2] of the 49 cells."""
    return tuple(tuple(cells[w, a].macs_per_dsp for a in WIDTHS) for w in WIDTHS)


def title(cells: Cells, mode: str) -> str:
    """Return what the rates of `cells`, found in `mode`, belong to."""
    plan = cells[WIDTHS[0], WIDTHS[0]]
    weights = "narrow" if plan.narrow else "full-range"
    return f"{plan.dsp}, kernel {plan.kernel}x{plan.kernel}, {weights} weights, mode {mode}"


def as_text(cells: Cells, mode: str) -> str:
    """Return MACs per DSP as a table, and its ratio to the published one where there is one."""
    kernel = cells[WIDTHS[0], WIDTHS[0]].kernel
    lines = [
        f"MACs per DSP and cycle: {title(cells, mode)}",
        *_rows(lambda w, a: _cell(cells[w, a])),
        "e: decoded in every cycle, n: after chains of products, c: canaries; then known low bits.",
        "Weights (rows, 2..8 bits) are signed. Activations (columns) are unsigned codes; signed",
        "ones enter as value + 2^(bits - 1), which a constant of the weights makes good.",
    ]
    theirs = published(kernel)
    if theirs is not None:
        rates = grid(cells)
        lines += [
            "",
            "Ratio to the published rates of DeepBurning-MixQ (ICCAD'23, DSP48E2), "
            f"geometric mean {mean_ratio(kernel, rates):.3f}",
            *_rows(lambda w, a: f"{float(rates[w - 2][a - 2]) / theirs[w - 2][a - 2]:.2f}"),
        ]
    return "\n".join(lines)


def _rows(text: Callable[[int, int], str]) -> Iterator[str]:
    yield "  w\\a" + "".join(f"{a:>9}" for a in WIDTHS)
    for w in WIDTHS:
        yield f"{w:>5}" + "".join(f"{text(w, a):>9}" for a in WIDTHS)


def _cell(plan: PackPlan) -> str:
    mark = {"every": "e", "chain": "n", "canary": "c"}[plan.mode]
    return f"{float(plan.macs_per_dsp):.2f} {mark}{plan.known_bits}"
