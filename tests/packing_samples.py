# SPDX-License-Identifier: Apache-2.0
"""Hand-made packing plans for tests that should not depend on the search."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Literal

from hw.device import dsp
from hw.packing.geometry import Cut, make_word, parts, port_tricks
from hw.packing.plan import ActLane, PackError, PackPlan, WeightLane, Zero
from hw.packing.rules import check

Pattern = tuple[tuple[WeightLane, ...], tuple[ActLane, ...]]
UNCUT = Cut()


def pattern_plan(
    kernel: int,
    w_bits: int,
    a_bits: int,
    groups: int,
    columns: int,
    patterns: Sequence[Pattern],
    *,
    cut: Cut | Literal["w", "signed w", "a"] = UNCUT,
    narrow: bool = True,
    known_bits: int = 0,
    zero: Zero = "plain",
    mode: str = "every",
    chain: int = 1,
    w_port: int | tuple[int, ...] = 27,
    dsp_name: str = "dsp48e2",
) -> PackPlan:
    """Return a plan whose words are `patterns`, once for each part.

    `cut` may name the operand to halve, `w_port` the widths that the words' ports take in turn.
    """
    if isinstance(cut, str):
        operand, bits = cut[-1], w_bits if cut[-1] == "w" else a_bits
        cut = Cut(operand, bits // 2, cut.startswith("signed")) if bits > 1 else Cut()
    device, slices = dsp(dsp_name), parts(w_bits, a_bits, narrow, cut)
    ports = (w_port,) if isinstance(w_port, int) else w_port
    words = []
    for index, (weights, acts) in product(range(len(slices)), patterns):
        port = ports[len(words) % len(ports)]
        other = device.wide_bits + device.narrow_bits - port
        tricks = port_tricks(slices[index], port, other, weights, acts, zero)
        word = make_word(
            device,
            slices[index],
            index,
            weights,
            acts,
            w_port=port,
            known_bits=known_bits,
            zero=zero,
            tricks=tricks or (0, 0),
        )
        words.append(word)
    return PackPlan(
        dsp_name,
        kernel,
        w_bits,
        a_bits,
        narrow,
        mode,
        chain,
        known_bits,
        zero,
        groups,
        columns,
        slices,
        tuple(words),
    )


def filter_plan(
    kernel: int = 3,
    w_bits: int = 4,
    a_bits: int = 4,
    *,
    stride: int = 11,
    taps: tuple[int, ...] = (3,),
    columns: int = 2,
    **given,
) -> PackPlan:
    """Return a plan of filter words: runs of `taps` neighbouring taps x `columns` columns."""
    acts = _acts(stride, range(columns))
    firsts = [sum(taps[:index]) for index in range(len(taps))]
    patterns = [(_run(stride, *run), acts) for run in zip(firsts, taps, strict=True)]
    return pattern_plan(kernel, w_bits, a_bits, 1, columns, patterns, **given)


def group_plan(
    groups: int = 2,
    columns: int = 2,
    stride: int = 11,
    *,
    kernel: int = 1,
    w_bits: int = 4,
    a_bits: int = 4,
    **given,
) -> PackPlan:
    """Return a plan of kernel packing: `groups` channels x `columns` columns, taps in turn."""
    acts = _acts(stride, range(columns))
    patterns = [
        (tuple(WeightLane(columns * stride * g, g, tap) for g in range(groups)), acts)
        for tap in range(kernel)
    ]
    return pattern_plan(kernel, w_bits, a_bits, groups, columns, patterns, **given)


def mixed_plan(
    kernel: int = 3, w_bits: int = 2, a_bits: int = 2, *, stride: int = 6, **given
) -> PackPlan:
    """Return a plan of words that hold all taps of two output channels, one column each."""
    lanes = [
        WeightLane(stride * (kernel * group + kernel - 1 - tap), group, tap)
        for group in range(2)
        for tap in reversed(range(kernel))
    ]
    patterns = [(tuple(lanes), (ActLane(0, 0, column),)) for column in range(2)]
    return pattern_plan(kernel, w_bits, a_bits, 2, 2, patterns, **given)


def gapped_plan(
    kernel: int = 3, w_bits: int = 2, a_bits: int = 2, *, stride: int = 5, **given
) -> PackPlan:
    """Return a plan of columns 0, 1, 3 and, mirrored, 2, 4, 5: two products meet at most."""
    patterns = [
        (_run(stride, 0, kernel), _acts(stride, columns)) for columns in ((0, 1, 3), (2, 4, 5))
    ]
    return pattern_plan(kernel, w_bits, a_bits, 1, 6, patterns, **given)


def flush_plan(
    kernel: int = 1,
    w_bits: int = 4,
    a_bits: int = 4,
    *,
    stride: int = 14,
    w_port: int | tuple[int, ...] = 27,
    **given,
) -> PackPlan:
    """Return a plan of two channels x two columns whose upper weight ends flush with its port."""
    top = (w_port if isinstance(w_port, int) else w_port[0]) - w_bits
    patterns = [
        ((WeightLane(0, 0, tap), WeightLane(top, 1, tap)), _acts(stride, range(2)))
        for tap in range(kernel)
    ]
    return pattern_plan(kernel, w_bits, a_bits, 2, 2, patterns, w_port=w_port, **given)


def _run(stride: int, first: int, count: int) -> tuple[WeightLane, ...]:
    """Return neighbouring taps, the last one lowest."""
    return tuple(WeightLane(stride * i, 0, first + count - 1 - i) for i in range(count))


def _acts(stride: int, columns: Sequence[int]) -> tuple[ActLane, ...]:
    return tuple(ActLane(stride * (column - columns[0]), 0, column) for column in columns)


@dataclass(frozen=True)
class Variant:
    """A kind of plan: `make` with `given`, weights on `ports` in turn, taps in one run or two.

    `loose`: the largest legal stride instead of the least, which fills the ports to the last bit.
    """

    make: Callable[..., PackPlan]
    given: dict[str, object] = field(default_factory=dict)
    ports: tuple[Literal["wide", "narrow"], ...] = ("wide",)
    runs: int = 1
    loose: bool = False

    def plan(
        self, kernel: int, w_bits: int, a_bits: int, narrow: bool, dsp_name: str
    ) -> PackPlan | None:
        """Return a legal plan of this kind for a cell of the tables, None if there is none."""
        device, taps = dsp(dsp_name), {}
        if self.make is filter_plan:
            taps = {"taps": (kernel,) if self.runs > kernel or self.runs == 1 else (1, kernel - 1)}
        widths = {"wide": device.wide_bits, "narrow": device.narrow_bits}
        strides = range(26, 0, -1) if self.loose else range(1, 27)
        for stride in strides:
            plan = self.make(
                kernel=kernel,
                w_bits=w_bits,
                a_bits=a_bits,
                narrow=narrow,
                dsp_name=dsp_name,
                stride=stride,
                w_port=tuple(widths[port] for port in self.ports),
                **taps,
                **self.given,
            )
            with suppress(PackError):
                check(plan)
                return plan
        return None


def _known(bits: int, **given) -> dict[str, object]:
    return {"known_bits": bits, **given}


def _canary(bits: int, chain: int, **given) -> dict[str, object]:
    return {"mode": "canary", "known_bits": bits, "chain": chain, **given}


VARIANTS = {
    "plain": Variant(filter_plan),
    "folded": Variant(filter_plan, {"zero": "folded"}, ports=("narrow",)),
    "centred": Variant(filter_plan, _known(1, zero="centred"), ports=("narrow",), loose=True),
    "flush": Variant(flush_plan, loose=True),
    "folded flush": Variant(flush_plan, _known(1, zero="folded"), loose=True),
    "flush chain": Variant(flush_plan, {"mode": "chain", "chain": 2}),
    "in turn": Variant(filter_plan, {"columns": 1}, ports=("wide", "narrow"), runs=2),
    "groups": Variant(group_plan, _known(1)),
    "groups chained": Variant(group_plan, {"mode": "chain", "chain": 5, "columns": 1}),
    "mixed": Variant(mixed_plan, _known(2)),
    "gapped": Variant(gapped_plan, _known(1, zero="folded")),
    "chain": Variant(filter_plan, {"mode": "chain", "chain": 7}, runs=2, loose=True),
    "known chain": Variant(filter_plan, _known(3, mode="chain", chain=3, zero="folded")),
    "known": Variant(filter_plan, _known(4, columns=1), ports=("narrow",)),
    "canary": Variant(filter_plan, _canary(2, 1000), runs=2),
    "flush canary": Variant(flush_plan, _canary(2, 50), loose=True),
    "folded canary": Variant(group_plan, _canary(3, 20, zero="folded"), ports=("wide", "narrow")),
    "centred canary": Variant(filter_plan, _canary(2, 300, zero="centred")),
    "centred chain": Variant(filter_plan, _known(2, mode="chain", chain=3, zero="centred")),
    "gapped canary": Variant(gapped_plan, _canary(4, 6)),
    "unsigned split": Variant(filter_plan, {"cut": "w"}),
    "signed split": Variant(
        filter_plan, _known(1, cut="signed w", zero="folded"), ports=("narrow", "wide")
    ),
    "split canary": Variant(group_plan, _canary(2, 9, cut="signed w")),
    "activation split": Variant(group_plan, {"cut": "a", "zero": "folded"}),
    "split chain": Variant(gapped_plan, {"cut": "a", "mode": "chain", "chain": 2}),
}


@cache
def sample_plans(
    kernel: int, w_bits: int, a_bits: int, narrow: bool, dsp_name: str
) -> dict[str, PackPlan]:
    """Return the legal plans of a cell of the tables, one of every kind that it can have."""
    cell = (kernel, w_bits, a_bits, narrow, dsp_name)
    plans = {name: variant.plan(*cell) for name, variant in VARIANTS.items()}
    return {name: plan for name, plan in plans.items() if plan is not None}
