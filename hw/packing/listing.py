# SPDX-License-Identifier: Apache-2.0
"""Plans as JSON objects and as a table of rates."""

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction

from hw.packing.plan import PackPlan, Word
from hw.packing.published import WIDTHS, mean_ratio, published

Cells = Mapping[tuple[int, int], PackPlan]


def as_json(plan: PackPlan) -> dict:
    """Return a plan as JSON values; the words run in turn on one DSP over one tile."""
    return {
        "w": plan.w_bits,
        "a": plan.a_bits,
        "macs_per_dsp": float(plan.macs_per_dsp),
        "mode": plan.mode,
        "t": plan.known_bits,
        "chain": plan.chain,
        "lut_per_mac": plan.lut_per_mac,
        "narrow": plan.narrow,
        "folded": plan.folded,
        "groups": plan.groups,
        "columns": plan.columns,
        "multipliers": plan.multipliers,
        "words": [_word(word) for word in plan.words],
        "split": _split(plan),
        "proof": plan.proof and asdict(plan.proof),
    }


def _word(word: Word) -> dict:
    return {
        "part": word.part,
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


def as_text(kernel: int, cells: Cells) -> str:
    """Return MACs per DSP as a table; the mode is a suffix, the known bits its number."""
    lines = ["w\\a " + "".join(f"{a:>9}" for a in WIDTHS)]
    for w in WIDTHS:
        lines.append(f"{w:>3} " + "".join(f"{_cell(cells[w, a]):>9}" for a in WIDTHS))
    lines.append(
        "MACs per DSP and cycle; e: decoded every cycle, n: chain, c: canary; + known bits"
    )
    if published(kernel) is not None:
        ratio = mean_ratio(kernel, grid(cells))
        lines.append(f"geometric mean against the published table: {ratio:.3f}")
    return "\n".join(lines)


def _cell(plan: PackPlan) -> str:
    mark = {"every": "e", "chain": "n", "canary": "c"}[plan.mode]
    known = f"+{plan.known_bits}" if plan.known_bits else ""
    return f"{float(plan.macs_per_dsp):.2f}{mark}{known}"
