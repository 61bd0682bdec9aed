# SPDX-License-Identifier: Apache-2.0
"""Word patterns of one part: offset sets that fit two ports and keep every field legal.

A pattern nests sets of lanes, every level at a stride that clears the one inside it: groups and
column blocks as mixed-radix digits, one filter level (neighbouring taps x columns at one stride,
products of an output meeting in a field), again groups and blocks. docs/packing.md, section 7.

So all runs of taps in a word are equally long, and so are all its column blocks. Brute force over
the offsets of small ports finds no faster words of that kind (tests/packing_bound.py); irregular
ones, a run of two taps beside one of one, are faster there in 2 % of the cases, and not tried.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import attrgetter
from typing import NamedTuple

from hw.intmath import signed_bits
from hw.packing.decoding import Rules
from hw.packing.geometry import act_shift, weight_shift
from hw.packing.plan import ActLane, Part, WeightLane
from hw.packing.tiling import (
    LARGEST_COLUMNS,
    LARGEST_GROUPS,
    Offsets,
    boxes,
    column_tilings,
    disjoint_sums,
)

_offset = attrgetter("offset")


@dataclass(frozen=True)
class Pattern:
    """The lanes of a word: weights `groups` (+) stride {0..taps-1}, acts `blocks` (+) stride U.

    `groups`, `blocks` are bit offsets of output channels and column blocks, U = `columns` positions
    in a block; neighbouring blocks lie `block_columns` columns apart.
    """

    w_port: int
    taps: int
    stride: int
    groups: Offsets
    blocks: Offsets
    columns: Offsets
    block_columns: int

    def weights(self, group: int = 0, tap: int = 0) -> tuple[WeightLane, ...]:
        """Return the weight lanes by offset for the groups and taps from `group`, `tap` on."""
        return tuple(
            sorted(
                (
                    WeightLane(offset + self.stride * lane, group + g, tap + self.taps - 1 - lane)
                    for g, offset in enumerate(self.groups)
                    for lane in range(self.taps)
                ),
                key=_offset,
            )
        )

    def acts(self, column: int = 0) -> tuple[ActLane, ...]:
        """Return the activation lanes by offset for the columns from `column` on."""
        return tuple(
            sorted(
                (
                    ActLane(offset + self.stride * u, 0, column + block * self.block_columns + u)
                    for block, offset in enumerate(self.blocks)
                    for u in self.columns
                ),
                key=_offset,
            )
        )


class Rectangle(NamedTuple):
    """Words that cover all products of `taps` taps, some groups and some columns.

    `sets` tile `period` columns; with several blocks, `repeats` periods run in turn so that the
    blocks of one word are too far apart to share an output.
    """

    w_port: int
    taps: int
    stride: int
    groups: Offsets
    blocks: Offsets
    sets: tuple[Offsets, ...]
    period: int
    repeats: int

    @property
    def columns(self) -> int:
        return self.period * self.repeats * len(self.blocks)

    @property
    def words(self) -> int:
        return self.repeats * len(self.sets)

    def placed(self) -> Iterator[tuple[Pattern, int]]:
        """Yield the pattern and first column of every word."""
        apart = self.period * self.repeats
        for repeat in range(self.repeats):
            for positions in self.sets:
                first = positions[0]
                moved = tuple(at - first for at in positions)
                pattern = Pattern(*self[:5], moved, apart)
                yield pattern, repeat * self.period + first


class Level(NamedTuple):
    """Lanes inside and of the filter level: offsets so far and the top offset on both sides.

    `w_ones`, `a_ones`: sum of 2^offset of the filter level alone, over its taps and over those
    columns of a set for which it is greatest.
    """

    stride: int
    groups: Offsets
    blocks: Offsets
    period: int
    sets: tuple[Offsets, ...]
    span: int
    w_top: int
    a_top: int
    w_ones: int
    a_ones: int


def rectangles(
    part: Part, taps: int, ports: tuple[int, int], rules: Rules
) -> dict[tuple[int, int], Rectangle]:
    """Return the cheapest rectangle of every size (groups, columns) that no pattern beats.

    `ports`: widths of the ports of weights and activations. Sizes that are made of smaller
    rectangles at the same cost are left to `tiling.tile_words`.
    """
    w_bits = signed_bits(part.w_lo, part.w_hi)
    if rules.w_flush:
        w_bits = (part.w_hi - part.w_lo).bit_length()
    w_room, a_room = ports[0] - w_bits, ports[1] - part.a_bits - (rules.zero == "plain")
    best: dict[tuple[int, int], tuple[int, int, Rectangle]] = {}
    for level in filter_levels(taps, w_room, a_room, rules.gaps, rules.highest):
        height = level.w_top + level.a_top
        step = height + rules.gaps[0]
        for w_spare, a_spare in ((0, 0), (1, 0), (0, 1), (1, 1)):
            refused = False
            outer = disjoint_sums(
                (w_room - w_spare - level.w_top) // step,
                (a_room - a_spare - level.a_top) // step,
                (rules.highest - height) // step,
            )
            for groups, blocks in outer:
                lanes = _combined(level.groups, groups, step), _combined(level.blocks, blocks, step)
                refused |= not _record(best, part, taps, ports, rules, level, *lanes)
            if not refused:
                break
    return {size: rectangle for size, (_, _, rectangle) in best.items()}


@lru_cache(1 << 16)
def filter_levels(
    taps: int, w_room: int, a_room: int, gaps: tuple[int, ...], highest: int
) -> tuple[Level, ...]:
    """Return every nest of inner digits and filter level whose lanes' tops fit the rooms."""
    return tuple(_levels(taps, w_room, a_room, gaps, highest)) if min(w_room, a_room) >= 0 else ()


def _levels(
    taps: int, w_room: int, a_room: int, gaps: tuple[int, ...], highest: int
) -> Iterator[Level]:
    for most in range(1, taps + 1):
        gap = gaps[most - 1]
        for groups, blocks in boxes() if taps > 1 else boxes(1):
            stride = len(groups) * len(blocks) * gap
            if (taps - 1) * stride > w_room:
                break
            w_top, inner = groups[-1] * gap + (taps - 1) * stride, blocks[-1] * gap
            if w_top > w_room or inner > a_room or len(groups) > LARGEST_GROUPS:
                continue
            scaled = _scaled(groups, gap), _scaled(blocks, gap)
            spans = range(1, (a_room - inner) // stride + 2) if taps > 1 else (1,)
            for span in spans:
                a_top = inner + (span - 1) * stride
                if w_top + a_top > highest:
                    break
                for period, sets in column_tilings(taps, most, span):
                    w_ones = _ones(_scaled((*range(taps),), stride))
                    tops = w_top, a_top, w_ones, _most_ones(sets, stride)
                    yield Level(stride, *scaled, period, sets, span, *tops)


@cache
def _combined(inner: Offsets, outer: Offsets, step: int) -> Offsets:
    return tuple(step * high + low for high in outer for low in inner)


def _record(
    best: dict[tuple[int, int], tuple[int, int, Rectangle]],
    part: Part,
    taps: int,
    ports: tuple[int, int],
    rules: Rules,
    level: Level,
    groups: Offsets,
    blocks: Offsets,
) -> bool:
    """Keep the rectangles of these lanes that beat what is there; False if a port refuses one."""
    groups = groups[:LARGEST_GROUPS]
    legal, w_fits = True, None
    apart = level.span + taps - 1
    for count in range(len(blocks), 0, -1):
        repeats = -(-apart // level.period) if count > 1 else 1
        size = len(groups), level.period * repeats * count
        if size[1] > LARGEST_COLUMNS:
            continue
        cost = repeats * len(level.sets), groups[-1] + blocks[count - 1]
        if size in best and best[size][:2] <= cost:
            continue
        if w_fits is None:
            w_add = weight_shift(part, ports[0], _ones(groups) * level.w_ones)
            w_fits = w_add is not None and (rules.w_flush or not w_add)
        if not w_fits:
            return False
        a_sub = act_shift(part, ports[1], _ones(blocks[:count]) * level.a_ones, rules.zero)
        if a_sub is None or (a_sub and rules.zero == "plain"):
            legal = False
            continue
        words = taps, level.stride, groups, blocks[:count], level.sets, level.period, repeats
        best[size] = (*cost, Rectangle(ports[0], *words))
    return legal


@cache
def _scaled(offsets: Offsets, stride: int) -> Offsets:
    return tuple(stride * offset for offset in offsets)


@cache
def _most_ones(sets: tuple[Offsets, ...], stride: int) -> int:
    return max(_ones(_scaled(tuple(at - c[0] for at in c), stride)) for c in sets)


@cache
def _ones(offsets: Offsets) -> int:
    return sum(1 << offset for offset in offsets)
