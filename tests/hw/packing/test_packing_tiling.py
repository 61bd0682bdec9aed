# SPDX-License-Identifier: Apache-2.0
"""Offset sets and tiles against enumeration of everything small."""

from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.packing.tiling import (
    LONGEST_GAPPED,
    NONE,
    boxes,
    column_tilings,
    cut_tile,
    disjoint_sums,
    tile_words,
)


def subsets(top: int):
    """Yield every set of offsets 0..top that holds 0."""
    for size in range(top + 1):
        yield from ((0, *rest) for rest in combinations(range(1, top + 1), size))


@pytest.mark.parametrize("width", range(1, 11))
def test_boxes_are_all_pairs_that_tile_an_interval(width):
    tilings = {
        (b, c)
        for b, c in product(subsets(width - 1), subsets(width - 1))
        if len(b) * len(c) == width
        and sorted(x + y for x, y in product(b, c)) == list(range(width))
    }
    assert {pair for pair in boxes(10) if len(pair[0]) * len(pair[1]) == width} == tilings


@pytest.mark.parametrize("both", [4, 7, 12])
@pytest.mark.parametrize(("first", "second"), [(0, 5), (3, 3), (4, 6), (6, 4), (7, 2)])
def test_no_offsets_have_more_disjoint_sums(first, second, both):
    most: dict[int, int] = {}
    for b, c in product(subsets(first), subsets(second)):
        sums = {x + y for x, y in product(b, c)}
        if len(sums) == len(b) * len(c) and max(sums) <= both:
            most[len(b)] = max(most.get(len(b), 0), len(c))
    found = disjoint_sums(first, second, both)
    for b, c in found:
        assert (b[-1] <= first, c[-1] <= second, b[-1] + c[-1] <= both) == (True, True, True)
        assert len({x + y for x, y in product(b, c)}) == len(b) * len(c)
    assert {len(b): len(c) for b, c in found} == most


@pytest.mark.parametrize(("taps", "most"), [(2, 1), (3, 1), (3, 2), (3, 3), (5, 2), (5, 4)])
@pytest.mark.parametrize("span", range(1, LONGEST_GAPPED + 1))
def test_columns_are_covered_once_and_fields_stay_small(taps, most, span):
    for columns, sets in column_tilings(taps, most, span):
        assert sorted(at for positions in sets for at in positions) == list(range(columns))
        for positions in sets:
            assert positions[-1] - positions[0] < span
            windows = (range(at, at + taps) for at in positions)
            assert max(len({*positions} & {*window}) for window in windows) <= most


def test_gapped_columns_by_hand():
    """{0, 1, 3} with its mirror {2, 4, 5}: three columns, at most two of any three neighbours."""
    assert (6, ((0, 1, 3), (2, 4, 5))) in column_tilings(3, 2, 4)
    assert column_tilings(3, 2, 2) == ((2, ((0, 1),)),)
    assert column_tilings(3, 3, 2) == ()  # two columns never fill a field of three


@st.composite
def single_words(draw) -> np.ndarray:
    groups, columns = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    costs = st.integers(1, 6) | st.just(NONE)
    words = np.array(draw(st.lists(costs, min_size=groups * columns, max_size=groups * columns)))
    words = words.reshape(groups, columns).astype(np.uint8)
    words[0, 0] = 1
    return words


@given(single_words())
def test_tiles_are_cut_at_the_least_cost(words):
    @cache
    def least(groups: int, columns: int) -> int:
        halves = [
            *(least(g, columns) + least(groups - g, columns) for g in range(1, groups)),
            *(least(groups, x) + least(groups, columns - x) for x in range(1, columns)),
        ]
        return min(int(words[groups - 1, columns - 1]), *halves, NONE)

    found = tile_words(words)
    for groups, columns in np.ndindex(words.shape):
        assert found[groups, columns] == least(groups + 1, columns + 1)


@given(single_words())
def test_a_cut_tile_is_covered_once_at_its_cost(words):
    best, tile = tile_words(words), words.shape
    costs = {(g + 1, x + 1): int(n) for (g, x), n in np.ndenumerate(words) if n < NONE}
    covered, spent = np.zeros(tile, int), 0
    for (groups, columns), group, column in cut_tile(best, costs, tile):
        covered[group : group + groups, column : column + columns] += 1
        spent += costs[groups, columns]
    assert (covered == 1).all()
    assert spent == best[-1, -1]
