# SPDX-License-Identifier: Apache-2.0
"""Exact search: the fewest words of the patterns that cover a tile, for every decoding of a cell.

Space: one operand cut at any bit or none; per part any runs of taps in turn; tiles cut into
rectangles; and the words of `patterns`, on either port, with the tricks that `Rules` allow.
The optimum decomposes. A cut gives parts; in each part the kernel's taps fall into runs, and the
words of a run depend on nothing but the part, the run and the decoding. So `patterns` finds the
rectangles that words can cover, `tiling` cuts tiles into rectangles, and here the cheapest runs and
cuts are added up, for all tiles and decodings at once. docs/packing.md, section 7.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from itertools import product

import numpy as np

from hw.device import Dsp, dsp
from hw.packing.decoding import LONGEST_CHAIN, Asked, Decoding, Rules, decodings
from hw.packing.geometry import Cut, cuts
from hw.packing.patterns import Pattern, Rectangle, rectangles
from hw.packing.plan import PackError, PackPlan, Part, Zero
from hw.packing.prove import certify
from hw.packing.recipe import Cell, Place, Recipe, build
from hw.packing.tiling import (
    LARGEST_COLUMNS,
    LARGEST_GROUPS,
    LARGEST_WORDS,
    NONE,
    Size,
    cut_tile,
    tile_words,
)

KERNELS = (1, 3, 5, 7)
WIDEST_BITS = 8
SEARCHED_BITS = range(2, WIDEST_BITS + 1)  # the widths that a network search chooses from
PARTS_AT_HAND = 256  # 0.3 MB each; the cells of one DSP share their parts
Decodings = tuple[Decoding, ...]


def check_cell(cell: Cell) -> None:
    """Raise PackError for a kernel or bit width that has no plans."""
    if cell.kernel not in KERNELS:
        raise PackError(f"no packing plans for kernel {cell.kernel}; allowed: {KERNELS}")
    least = 2 if cell.narrow else 1
    for name, bits, lowest in (("w_bits", cell.w_bits, least), ("a_bits", cell.a_bits, 1)):
        if not lowest <= bits <= WIDEST_BITS:
            kind = "narrow " if cell.narrow and name == "w_bits" else ""
            hint = "; a narrow 1-bit weight is always 0" if bits == 1 else ""
            raise PackError(
                f"no packing plans for {kind}{name} {bits}; allowed: {lowest}..{WIDEST_BITS}{hint}"
            )


# Words of a tile ---------------------------------------------------------------------------------


@cache
def run_rectangles(
    device: Dsp, part: Part, taps: int, rules: Rules
) -> dict[tuple[int, int], Rectangle]:
    """Return the cheapest rectangle of every size over both assignments of the ports."""
    found: dict[tuple[int, int], Rectangle] = {}
    widths = (device.wide_bits, device.narrow_bits)
    for ports in dict.fromkeys((widths, widths[::-1])):
        for size, rectangle in rectangles(part, taps, ports, rules).items():
            if size not in found or rectangle.words < found[size].words:
                found[size] = rectangle
    return found


@lru_cache(PARTS_AT_HAND)
def run_words(device: Dsp, part: Part, ways: Decodings) -> np.ndarray:
    """Return the least words `[way, taps - 1, groups - 1, columns - 1]` of a run's tile."""
    lengths = range(1, max(KERNELS) + 1)
    keys = [[(taps, way.rules(device, part, taps)) for taps in lengths] for way in ways]
    distinct = list(dict.fromkeys(key for row in keys for key in row))
    single = np.full((len(distinct), LARGEST_GROUPS, LARGEST_COLUMNS), NONE, np.uint8)
    for words, (taps, rules) in zip(single, distinct, strict=True):
        for (groups, columns), rectangle in run_rectangles(device, part, taps, rules).items():
            words[groups - 1, columns - 1] = rectangle.words
    index = {key: at for at, key in enumerate(distinct)}
    words = tile_words(single)[[[index[key] for key in row] for row in keys]]
    words[[not way.suits(part) for way in ways]] = NONE
    return words


@lru_cache(PARTS_AT_HAND)
def part_words(device: Dsp, part: Part, ways: Decodings) -> np.ndarray:
    """Return the least words `[way, taps, groups - 1, columns - 1]`, taps cut into runs."""
    runs = run_words(device, part, ways)
    words = np.zeros_like(runs, shape=(len(ways), max(KERNELS) + 1, *runs.shape[2:]))
    for taps in range(1, max(KERNELS) + 1):
        options = [words[:, taps - run] + runs[:, run - 1] for run in range(1, taps + 1)]
        words[:, taps] = np.minimum(np.min(options, axis=0), NONE)
    return words


def in_place(part: Part) -> Part:
    """Return the part without its position in the operands, which words do not depend on."""
    return replace(part, w_low=0, w_round=0, a_low=0)


def cell_words(cell: Cell, ways: Decodings) -> tuple[np.ndarray, np.ndarray]:
    """Return the least words `[way, groups - 1, columns - 1]` and the index of the cut."""
    device = dsp(cell.dsp)
    options = [
        sum(part_words(device, in_place(part), ways)[:, cell.kernel] for part in cell.parts(cut))
        for cut in cuts(cell.w_bits, cell.a_bits)
    ]
    return np.min(options, axis=0), np.argmin(options, axis=0)


# Recipes -----------------------------------------------------------------------------------------


def assemble(cell: Cell, ways: Decodings, way: int, cut: Cut, tile: Size) -> Recipe:
    """Return the recipe of the fewest words for a tile (groups, columns)."""
    device, decoding = dsp(cell.dsp), ways[way]
    placed = [
        (pattern, index, *first)
        for index, part in enumerate(cell.parts(cut))
        for pattern, *first in cover(device, in_place(part), cell.kernel, ways, way, tile)
    ]
    patterns = list(dict.fromkeys(pattern for pattern, *_ in placed))
    return Recipe(
        decoding.mode,
        decoding.known_bits,
        decoding.zero,
        *tile,
        cut,
        tuple(patterns),
        tuple(Place(patterns.index(pattern), *label) for pattern, *label in placed),
    )


def cover(
    device: Dsp, part: Part, kernel: int, ways: Decodings, way: int, tile: Size
) -> Iterator[tuple[Pattern, int, int, int]]:
    """Yield the patterns that cover a part's products, with their first group, tap and column."""
    at = (slice(None), tile[0] - 1, tile[1] - 1)
    runs, words = run_words(device, part, ways)[way], part_words(device, part, ways)[way]
    single, needed, left = runs[at], words[at], kernel
    while left:
        run = next(
            n for n in range(1, left + 1) if single[n - 1] + needed[left - n] == needed[left]
        )
        found = run_rectangles(device, part, run, ways[way].rules(device, part, run))
        costs = {size: rectangle.words for size, rectangle in found.items()}
        for size, group, column in cut_tile(runs[run - 1], costs, tile):
            for pattern, first in found[size].placed():
                yield pattern, group, kernel - left, column + first
        left -= run


# Choice ------------------------------------------------------------------------------------------


Need = tuple[Callable[[Decoding], bool], Callable[[int, int], bool]]


def _mode(mode: Asked, known_bits: int = 4, chain: int = 1) -> Callable[[Decoding], bool]:
    return lambda way: (
        mode in ("best", way.mode) and way.known_bits <= known_bits and way.chain >= chain
    )


def _unbiased(mode: Asked, chain: int = 1) -> Callable[[Decoding], bool]:
    return lambda way: way.zero != "folded" and _mode(mode, chain=chain)(way)


def _dividing(groups: int, columns: int = LARGEST_COLUMNS) -> Callable[[int, int], bool]:
    return lambda g, x: groups % g == 0 and x <= columns


_ALL, _EVERY, _CANARY = _mode("best"), _mode("every"), _mode("canary", 2)
_LONG_CANARY = _mode("canary", 2, 256)
_CHAINS = [_mode("chain", chain=n) for n in (16, 64, 256, 4096)]
_ANY, _DENSE, _DEPTHWISE = _dividing(0), _dividing(8, 12), _dividing(1, 12)
NEEDS: tuple[Need, ...] = (
    (_ALL, _ANY),
    (_ALL, _dividing(1, 1)),
    *((_ALL, tile) for tile in (_DEPTHWISE, _dividing(2), _dividing(4), _DENSE)),
    (_ALL, _dividing(0, 4)),
    *((way, tile) for tile in (_DENSE, _DEPTHWISE) for way in (_LONG_CANARY, _CANARY, *_CHAINS)),
    *((_EVERY, tile) for tile in (_DENSE, _DEPTHWISE)),
    *((way, _ANY) for way in (_unbiased("every"), _unbiased("chain", 64), _unbiased("canary"))),
)
"""What a layer may ask of a plan, the most common first: a decoding, a tile (groups, columns)."""


def search(
    dsp_name: str,
    kernel: int,
    w_bits: int,
    a_bits: int,
    narrow: bool = True,
    *,
    mode: Asked = "best",
    chain: int = 1,
    known_bits: int = 4,
    zero: Zero | None = None,
) -> tuple[PackPlan, ...]:
    """Return the fastest plans of a cell for the NEEDS of layers, best rate first.

    The Pareto set over (rate, LUTs, chain) among the fastest plans of every decoding, and plans
    for smaller tiles or without bias where these cost rate. Every plan holds `chain` products in P
    or more, has `known_bits` or fewer and the zero points `zero` (None: any). Raises PackError for
    a kernel, width or option without plans, DeviceError for an unknown DSP.
    """
    cell = Cell(dsp_name, kernel, w_bits, a_bits, narrow)
    ways = decodings(dsp(dsp_name), mode, chain, known_bits, zero)
    return tuple(build(cell, recipe) for recipe in recipes(cell, ways))


def recipes(cell: Cell, ways: Decodings) -> tuple[Recipe, ...]:
    """Return the recipes of `search`, restricted to the given decodings."""
    check_cell(cell)
    alone: list[Need] = [(way.__eq__, _ANY) for way in ways]
    plans = {recipe: build(cell, recipe) for recipe in fastest(cell, ways, (*NEEDS, *alone))}
    kept: list[Recipe] = []
    for recipe in sorted(plans, key=lambda recipe: rank(plans[recipe])):
        if not any(covers(plans[other], plans[recipe]) for other in kept):
            kept.append(recipe)
    return tuple(kept)


def fastest(cell: Cell, ways: Decodings, needs: Iterable[Need]) -> Iterator[Recipe]:
    """Yield the fastest recipe for every need that one satisfies.

    Of equally fast ones the decoding that comes first, then the fewest groups and columns.
    """
    if not ways:
        return
    words, chosen = cell_words(cell, ways)
    options = tuple(cuts(cell.w_bits, cell.a_bits))
    sizes = np.indices(words.shape[1:]) + 1
    rates = np.where(words <= LARGEST_WORDS, cell.kernel * sizes[0] * sizes[1] / words, 0)
    for suits, allows in needs:
        rows = [index for index, way in enumerate(ways) if suits(way)]
        masked = rates[rows] * _allowed(allows)
        if masked.any():
            row, *at = np.unravel_index(np.argmax(masked), masked.shape)
            way, tile = rows[row], (int(at[0]) + 1, int(at[1]) + 1)
            yield assemble(cell, ways, way, options[chosen[way, at[0], at[1]]], tile)


@cache
def _allowed(allows: Callable[[int, int], bool]) -> np.ndarray:
    """Return which tiles `[groups - 1, columns - 1]` are allowed."""
    return np.array(
        [
            [allows(g, x) for x in range(1, LARGEST_COLUMNS + 1)]
            for g in range(1, LARGEST_GROUPS + 1)
        ]
    )


def covers(one: PackPlan, other: PackPlan) -> bool:
    """Tell whether `one` is nowhere worse; a divisor of the other's groups never is.

    Chains beyond LONGEST_CHAIN count as equal. A plan covers none that `rank` puts before it.
    """
    return (
        one.macs_per_dsp >= other.macs_per_dsp
        and one.lut_per_mac <= other.lut_per_mac
        and other.groups % one.groups == 0
        and one.columns <= other.columns
        and useful_chain(one) >= useful_chain(other)
        and one.biased <= other.biased
    )


def rank(plan: PackPlan) -> tuple:
    """Sort key: highest rate first, then cheapest, then the smallest tile."""
    tile = plan.groups, plan.columns
    return -plan.macs_per_dsp, plan.lut_per_mac, *tile, -useful_chain(plan), plan.biased


def useful_chain(plan: PackPlan) -> int:
    """Return the plan's chain as far as longer ones are better."""
    return min(plan.chain, LONGEST_CHAIN)


def best_plans(
    dsp_name: str,
    kernel: int,
    *,
    narrow: bool = True,
    mode: Asked = "best",
    chain: int = 1,
    known_bits: int = 4,
    zero: Zero | None = None,
) -> dict[tuple[int, int], PackPlan]:
    """Return the fastest plan of every cell (w_bits, a_bits) of 2..8 x 2..8, each with its proof.

    Options and errors as for `search`; raises PackError where no plan satisfies the options.
    """
    ways, best = decodings(dsp(dsp_name), mode, chain, known_bits, zero), {}
    for bits in product(SEARCHED_BITS, SEARCHED_BITS):
        cell = Cell(dsp_name, kernel, *bits, narrow)
        check_cell(cell)
        recipe = next(fastest(cell, ways, NEEDS[:1]), None)
        if recipe is None:
            raise PackError(
                f"{cell} has no plan of mode '{mode}' with chains of {chain} and {known_bits} "
                "known bits; allow shorter chains, more known bits or another mode"
            )
        best[bits] = certify(build(cell, recipe))
    return best
