# SPDX-License-Identifier: Apache-2.0
"""Recipes: stored and read back, built into plans with the longest exact chain."""

import json
import re
from dataclasses import replace

import pytest

from hw.device import dsp
from hw.packing import PackError
from hw.packing.cost import lut_per_mac
from hw.packing.decoding import decodings
from hw.packing.geometry import Cut
from hw.packing.patterns import Pattern
from hw.packing.recipe import Cell, Place, Recipe, as_rows, build, from_rows
from hw.packing.rules import check
from hw.packing.search import recipes
from hw.packing.table import stored_recipes

CELLS = [
    Cell("dsp48e2", 3, 4, 4, False),
    Cell("dsp48e1", 7, 1, 1, False),
    Cell("dsp48e2", 5, 8, 7, True),
]


def test_a_recipe_by_hand():
    """Two weights at 0 and 18 times one activation, decoded every cycle: 2 MACs in one word."""
    pattern = Pattern(27, 1, 1, (0, 18), (0,), (0,), 1)
    recipe = Recipe("every", 0, "folded", 2, 1, Cut(), (pattern,), (Place(0, 0, 0, 0, 0),))
    plan = build(Cell("dsp48e2", 1, 8, 8, False), recipe)
    check(plan)
    assert (plan.macs_per_dsp, plan.chain, plan.groups, plan.columns) == (2, 1, 2, 1)
    assert [field.offset for field in plan.words[0].fields] == [0, 18]
    assert plan.lut_per_mac == lut_per_mac(plan) > 0


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_recipes_survive_json(cell):
    found = stored_recipes(cell)
    assert from_rows(json.loads(json.dumps(as_rows(found)))) == found


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_chains_are_the_longest_exact_ones(cell):
    for recipe in stored_recipes(cell):
        plan = build(cell, recipe)
        check(plan)
        if plan.mode != "every":
            with pytest.raises(PackError, match="reaches"):
                check(replace(plan, chain=plan.chain + 1))


def test_a_pattern_that_fits_no_port_is_refused():
    recipe = recipes(CELLS[0], decodings(dsp("dsp48e2"), "every", known_bits=0))[0]
    wide = replace(recipe.patterns[0], groups=(0, 40))
    with pytest.raises(PackError, match=re.escape("does not fit ports of")):
        build(CELLS[0], replace(recipe, patterns=(wide, *recipe.patterns[1:])))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[], [["e", 0, 0, 1, 1, [], [0], [0]]]],  # no such pattern
        [[], [["x", 0, 0, 1, 1, [], [], []]]],  # no such mode
        [[], [["e", 0, 0, 1, 1, []]]],  # a field is missing
        [[[27, 1]], []],
        [[], [["e", 0, 0, 1, 1, [], [], [-1]]]],  # no such place
    ],
)
def test_damaged_rows_are_refused(rows):
    with pytest.raises(PackError, match="are not packing recipes"):
        from_rows(rows)
