# SPDX-License-Identifier: Apache-2.0
"""Combinatorics of offset sets: sums that never meet, columns that tile a row, tiles of words.

Nothing here knows bits or ports; `hw.packing.patterns` scales the sets to bit offsets.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np

LARGEST_WIDTH = 54  # sums of two offset sets: no accumulator has room for more one-bit fields
LARGEST_GROUPS = 16  # of a tile: a layer's output channels must be a multiple
LARGEST_COLUMNS = 24  # of a tile: a feature map must be as wide
LARGEST_WORDS = 48  # of a tile: each is a step of the chip's schedule
NONE = 100  # words of a tile that has no plan; two of them fit in a byte
LONGEST_GAPPED = 10  # positions of a gapped column set: longer ones are no denser
DEEPEST_TILING = 4  # gapped sets that tile the columns together

Offsets = tuple[int, ...]
Size = tuple[int, int]  # groups, columns


@cache
def boxes(width_limit: int = LARGEST_WIDTH) -> tuple[tuple[Offsets, Offsets], ...]:
    """Return every pair (B, C) whose sums are 0..|B||C| - 1, each once: mixed-radix digits.

    The digits of a number of [0, width) belong to B and C in turn. All pairs of sets that tile an
    interval are of this kind (de Bruijn). Sorted by width |B||C|, at most `width_limit`.
    """

    def grow(own: Offsets, other: Offsets) -> Iterator[tuple[Offsets, Offsets]]:
        width = len(own) * len(other)
        for digits in range(2, width_limit // width + 1):
            grown = tuple(digit * width + offset for digit in range(digits) for offset in own)
            yield grown, other
            yield from ((second, first) for first, second in grow(other, grown))

    pairs = [((0,), (0,)), *grow((0,), (0,)), *((c, b) for b, c in grow((0,), (0,)))]
    return tuple(sorted(pairs, key=lambda pair: (len(pair[0]) * len(pair[1]), pair)))


@cache
def _prefixes() -> dict[tuple[int, int], list[tuple[Offsets, Offsets]]]:
    """Return prefixes of boxes by their sizes, without those that reach further on both sides."""
    found: dict[tuple[int, int], dict[tuple[int, int], tuple[Offsets, Offsets]]] = {}
    for first, second in boxes():
        for b in range(1, len(first) + 1):
            for c in range(1, len(second) + 1):
                tops = first[b - 1], second[c - 1]
                found.setdefault((b, c), {}).setdefault(tops, (first[:b], second[:c]))
    return {
        sizes: [
            by_tops[tops]
            for tops in sorted(by_tops, key=sum)
            if not any(o != tops and o[0] <= tops[0] and o[1] <= tops[1] for o in by_tops)
        ]
        for sizes, by_tops in found.items()
    }


@cache
def disjoint_sums(first: int, second: int, both: int) -> tuple[tuple[Offsets, Offsets], ...]:
    """Return pairs (B, C) with distinct sums, the largest C for every size of B.

    B reaches at most `first`, C `second`, both together `both`. Prefixes of the pairs are pairs.
    """
    best: dict[int, tuple[Offsets, Offsets]] = {}
    for (b, c), pairs in _prefixes().items():
        if b in best and len(best[b][1]) >= c:
            continue
        for pair in pairs:
            tops = pair[0][-1], pair[1][-1]
            if tops[0] <= first and tops[1] <= second and sum(tops) <= both:
                best[b] = pair
                break
    return tuple(best[b] for b in sorted(best))


@cache
def column_tilings(taps: int, most: int, span: int) -> tuple[tuple[int, tuple[Offsets, ...]], ...]:
    """Return (columns, sets): sets of `span` positions that cover the columns exactly once.

    Any `taps` neighbouring positions hold at most `most` columns of a set, so at most `most`
    products of `taps` taps meet in a field. Contiguous columns where they are allowed and need
    `most`, else gapped sets wherever these hold more than `most` columns on average.
    """
    if most >= min(taps, span):
        return ((span, (tuple(range(span)),)),) if most == min(taps, span) else ()
    if span > LONGEST_GAPPED:
        return ()
    window = (1 << taps) - 1
    sets = sorted(
        (
            mask
            for mask in range(1, 1 << span, 2)
            if all((mask >> at & window).bit_count() <= most for at in range(span))
        ),
        key=lambda mask: (-mask.bit_count(), mask),
    )
    largest = sets[0].bit_count()
    dense = [mask for mask in sets if mask.bit_count() >= largest - 1]
    found, mean = [], most
    for depth in range(1, DEEPEST_TILING + 1):
        tiled = _tile(dense, depth, depth * mean)
        if tiled:
            columns = sum(mask.bit_count() for mask in tiled)
            mean = columns / depth
            found.append((columns, tuple(_positions(mask) for mask in tiled)))
    return tuple(found)


def _positions(mask: int) -> Offsets:
    return tuple(at for at in range(mask.bit_length()) if mask >> at & 1)


def _tile(sets: list[int], depth: int, more_than: float) -> list[int] | None:
    """Return the most columns 0..n - 1, n > more_than, that `depth` shifted sets cover exactly."""
    best: list[int] | None = None

    def cover(covered: int, placed: list[int], columns: int) -> None:
        nonlocal best, more_than
        left = depth - len(placed)
        if not left:
            if not covered & (covered + 1) and columns > more_than:
                best, more_than = list(placed), columns
            return
        for mask in sets:
            if columns + mask.bit_count() + (left - 1) * sets[0].bit_count() <= more_than:
                return
            shifted = mask * (~covered & (covered + 1))
            if not covered & shifted:
                cover(covered | shifted, [*placed, shifted], columns + mask.bit_count())

    cover(0, [], 0)
    return best


def tile_words(words: np.ndarray) -> np.ndarray:
    """Return the least words `[..., groups, columns]` of every tile, given those of single ones.

    A tile may be cut in two along groups or columns, again and again. Index 0 is size 1.
    """
    words = words.copy()
    groups, columns = words.shape[-2:]
    for g in range(groups):
        row = words[..., g, :]
        for part in range((g + 1) // 2):
            np.minimum(row, words[..., part, :] + words[..., g - 1 - part, :], out=row)
        for x in range(1, columns):
            half = (x + 1) // 2
            cut = row[..., :half] + row[..., x - 1 : x - 1 - half if x > half else None : -1]
            row[..., x] = np.minimum(row[..., x], cut.min(-1))
    return np.minimum(words, NONE)


def cut_tile(
    words: np.ndarray, costs: Mapping[Size, int], tile: Size, group: int = 0, column: int = 0
) -> Iterator[tuple[Size, int, int]]:
    """Yield the rectangles (size, first group, first column) that `tile_words` made a tile of.

    `words`: its result `[groups, columns]`, `costs`: words of single rectangles.
    """
    groups, columns = tile
    total = words[groups - 1, columns - 1]
    if costs.get(tile) == total:
        yield tile, group, column
        return
    across = next(
        (
            x
            for x in range(1, columns)
            if words[groups - 1, [x - 1, columns - x - 1]].sum() == total
        ),
        None,
    )
    if across is not None:
        yield from cut_tile(words, costs, (groups, across), group, column)
        yield from cut_tile(words, costs, (groups, columns - across), group, column + across)
        return
    down = next(
        g for g in range(1, groups) if words[[g - 1, groups - g - 1], columns - 1].sum() == total
    )
    yield from cut_tile(words, costs, (down, columns), group, column)
    yield from cut_tile(words, costs, (groups - down, columns), group + down, column)
