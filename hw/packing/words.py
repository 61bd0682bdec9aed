# SPDX-License-Identifier: Apache-2.0
"""The fewest words of the patterns that cover a tile, for every decoding and cut of a cell.

Space: one operand cut at any bit or none; per part any runs of taps in turn; tiles cut into
rectangles; and the words of `patterns`, on either port, with the tricks that `Rules` allow.
The optimum decomposes. A cut gives parts; in each part the kernel's taps fall into runs, and the
words of a run depend on nothing but the part, the run and the decoding. So `patterns` finds the
rectangles that words can cover, `tiling` cuts tiles into rectangles, and here the cheapest runs are
added up, for all tiles and decodings at once. docs/packing.md, section 7.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from hw.device import Dsp, dsp
from hw.packing.decoding import LONGEST_CHAIN, Decoding, Rules, ladder
from hw.packing.geometry import Cut
from hw.packing.patterns import Pattern, Rectangle, rectangles
from hw.packing.plan import Part
from hw.packing.recipe import Cell, Place, Recipe
from hw.packing.tiling import (
    LARGEST_COLUMNS,
    LARGEST_GROUPS,
    NONE,
    Size,
    cut_tile,
    tile_words,
)

ENDLESS = 1 << 62  # products: more than any accumulator holds
PARTS_AT_HAND = 256  # a MB each; the cells of one DSP share their parts
Decodings = tuple[Decoding, ...]


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


@lru_cache(4 * PARTS_AT_HAND)
def run_words(device: Dsp, part: Part, taps: int, rules: tuple[Rules, ...]) -> np.ndarray:
    """Return the least words `[rule, groups - 1, columns - 1]` of the tiles of a run of taps."""
    single = np.full((len(rules), LARGEST_GROUPS, LARGEST_COLUMNS), NONE, np.uint8)
    for words, rule in zip(single, rules, strict=True):
        for (groups, columns), rectangle in run_rectangles(device, part, taps, rule).items():
            words[groups - 1, columns - 1] = rectangle.words
    return tile_words(single)


@dataclass(frozen=True, eq=False)
class PartWords:
    """The least words of a part's tiles at every step of the ladders of some decodings.

    `runs` `[step, run, groups - 1, columns - 1]` of one run of taps, `words` `[step, taps, groups -
    1, columns - 1]` of taps cut into runs; `chains` and the first step of every decoding's ladder.
    """

    chains: tuple[tuple[int, ...], ...]
    firsts: tuple[int, ...]
    runs: np.ndarray
    words: np.ndarray

    def steps(self, way: int, chains: Sequence[int]) -> np.ndarray:
        """Return the steps whose words are those of decoding `way` (its index) for `chains`."""
        above = np.searchsorted(self.chains[way], chains)
        return self.firsts[way] + np.minimum(above, len(self.chains[way]) - 1)


@lru_cache(PARTS_AT_HAND)
def part_words(device: Dsp, part: Part, kernel: int, ways: Decodings) -> PartWords:
    """Return the least words of a part's tiles for every step of the ladders of `ways`."""
    ladders = [ladder(way, part, kernel) for way in ways]
    steps = [step for rungs in ladders for step in rungs]
    shape = len(steps), kernel + 1, LARGEST_GROUPS, LARGEST_COLUMNS
    runs, words = np.full(shape, NONE, np.uint8), np.zeros(shape, np.uint8)
    unsuited = [not step.suits(part) for step in steps]
    for taps in range(1, kernel + 1):
        rules = [step.rules(device, part, taps) for step in steps]
        distinct = tuple(dict.fromkeys(rules))
        index = {rule: at for at, rule in enumerate(distinct)}
        runs[:, taps] = run_words(device, part, taps, distinct)[[index[rule] for rule in rules]]
        runs[unsuited, taps] = NONE
        options = [words[:, taps - run] + runs[:, run] for run in range(1, taps + 1)]
        words[:, taps] = np.minimum(np.min(options, axis=0), NONE)
    chains = tuple(tuple(rung.chain for rung in rungs) for rungs in ladders)
    firsts = np.cumsum([0, *map(len, chains)]).tolist()
    return PartWords(chains, tuple(firsts[:-1]), runs, words)


def in_place(part: Part) -> Part:
    """Return the part without its position in the operands, which words do not depend on."""
    return replace(part, w_low=0, w_round=0, a_low=0)


class CutWords(NamedTuple):
    """The least words `[row, groups - 1, columns - 1]` of a cut; decoding and chain of each row."""

    ways: np.ndarray
    chains: np.ndarray
    words: np.ndarray


def cut_words(cell: Cell, cut: Cut, ways: Decodings) -> CutWords:
    """Return the least words of every tile, for every decoding (its index in `ways`) and chain.

    For each of `ways` the chains at which the words of some part change, up to the first that is
    not below LONGEST_CHAIN.
    """
    device = dsp(cell.dsp)
    tables = [part_words(device, in_place(p), cell.kernel, ways) for p in cell.parts(cut)]
    rows: list[tuple[int, list[int]]] = []
    for way in range(len(ways)):
        chains = sorted({chain for table in tables for chain in table.chains[way]})
        rows.append((way, chains[: bisect_left(chains, LONGEST_CHAIN) + 1]))
    found = [
        table.words[np.concatenate([table.steps(*row) for row in rows]), cell.kernel]
        for table in tables
    ]
    lengths = [len(chains) for _, chains in rows]
    return CutWords(
        np.repeat(np.arange(len(ways)), lengths),
        np.array([min(chain, ENDLESS) for _, chains in rows for chain in chains]),
        np.minimum(sum(found), NONE),
    )


def assemble(cell: Cell, cut: Cut, ways: Decodings, way: int, chain: int, tile: Size) -> Recipe:
    """Return the recipe of the fewest words for a tile (groups, columns), ways[way] and a chain."""
    placed = [
        (pattern, index, *first)
        for index, part in enumerate(cell.parts(cut))
        for pattern, *first in cover(
            dsp(cell.dsp), in_place(part), cell.kernel, ways, way, chain, tile
        )
    ]
    patterns = list(dict.fromkeys(pattern for pattern, *_ in placed))
    return Recipe(
        *ways[way].family,
        *tile,
        cut,
        tuple(patterns),
        tuple(Place(patterns.index(pattern), *label) for pattern, *label in placed),
    )


def cover(
    device: Dsp, part: Part, kernel: int, ways: Decodings, way: int, chain: int, tile: Size
) -> Iterator[tuple[Pattern, int, int, int]]:
    """Yield the patterns that cover a part's products, with their first group, tap and column."""
    table = part_words(device, part, kernel, ways)
    at, decoding = (slice(None), tile[0] - 1, tile[1] - 1), replace(ways[way], chain=chain)
    (step,) = table.steps(way, [chain])
    single, needed, left = table.runs[step][at], table.words[step][at], kernel
    while left:
        run = next(n for n in range(1, left + 1) if single[n] + needed[left - n] == needed[left])
        found = run_rectangles(device, part, run, decoding.rules(device, part, run))
        costs = {size: rectangle.words for size, rectangle in found.items()}
        for size, group, column in cut_tile(table.runs[step][run], costs, tile):
            for pattern, first in found[size].placed():
                yield pattern, group, kernel - left, column + first
        left -= run
