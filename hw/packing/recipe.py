# SPDX-License-Identifier: Apache-2.0
"""Recipe: the few numbers that a plan is built from, as the search finds and tables store them."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache

import numpy as np

from hw.device import dsp
from hw.packing.cost import lut_per_mac
from hw.packing.geometry import Cut, make_word, parts, port_tricks
from hw.packing.patterns import Pattern
from hw.packing.plan import ZEROS, Mode, PackError, PackPlan, Part, Word, Zero

MODES: dict[str, Mode] = {"e": "every", "n": "chain", "c": "canary"}
PLACES = (64, 2, 16, 8, 32)
"""Bounds of a Place's fields. A file keeps places as the steps between numbers of these radices."""
_LETTERS = {mode: letter for letter, mode in MODES.items()}


@dataclass(frozen=True)
class Cell:
    """What plans are searched for: kernel taps and operand widths on one DSP."""

    dsp: str
    kernel: int
    w_bits: int
    a_bits: int
    narrow: bool

    def __str__(self):
        weights = "narrow" if self.narrow else "full-range"
        return f"{self.dsp} kernel {self.kernel} w{self.w_bits}a{self.a_bits} ({weights} weights)"

    def parts(self, cut: Cut) -> tuple[Part, ...]:
        """Return the slices of a cut."""
        return parts(self.w_bits, self.a_bits, self.narrow, cut)


@dataclass(frozen=True)
class Place:
    """A word: a pattern (its index in the recipe) on a part, with its first lanes' labels."""

    pattern: int
    part: int
    group: int
    tap: int
    column: int


@dataclass(frozen=True)
class Recipe:
    """A plan without what follows from it: lanes, fields, port tricks, chain, LUTs."""

    mode: Mode
    known_bits: int
    zero: Zero
    groups: int
    columns: int
    cut: Cut
    patterns: tuple[Pattern, ...]
    places: tuple[Place, ...]


def build(cell: Cell, recipe: Recipe) -> PackPlan:
    """Return the plan of a recipe with its longest chain; raise PackError if a word fits no port.

    Whether the plan is exact is the business of `rules`.
    """
    slices = cell.parts(recipe.cut)
    words = tuple(pack(cell, recipe, slices, place) for place in recipe.places)
    plan = _plan(cell, recipe, slices, words)
    return replace(plan, lut_per_mac=lut_per_mac(plan))


def _plan(
    cell: Cell, recipe: Recipe, slices: tuple[Part, ...], words: tuple[Word, ...]
) -> PackPlan:
    return PackPlan(
        cell.dsp,
        cell.kernel,
        cell.w_bits,
        cell.a_bits,
        cell.narrow,
        recipe.mode,
        longest_chain(recipe.mode, words),
        recipe.known_bits,
        recipe.zero,
        recipe.groups,
        recipe.columns,
        slices,
        words,
        dsp(cell.dsp).multipliers,
    )


def outline(cell: Cell, recipe: Recipe) -> PackPlan:
    """Return the plan with one word of each pattern and part, unlabelled: enough for its price."""
    slices = cell.parts(recipe.cut)
    kinds = dict.fromkeys((place.pattern, place.part) for place in recipe.places)
    words = tuple(
        unlabelled(
            cell.dsp,
            slices[part],
            part,
            recipe.patterns[pattern],
            recipe.known_bits,
            recipe.zero,
        )
        for pattern, part in kinds
    )
    plan = _plan(cell, recipe, slices, words)
    return replace(plan, lut_per_mac=lut_per_mac(plan, steps=len(recipe.places)))


def longest_chain(mode: Mode, words: Sequence[Word]) -> int:
    """Return how many products fit every field, or the top ones where carries are counted."""
    if mode == "every":
        return 1
    read = [word.fields[-1:] if mode == "canary" else word.fields for word in words]
    return min(((1 << field.bits) - 1) // field.spread for fields in read for field in fields)


def pack(cell: Cell, recipe: Recipe, slices: tuple[Part, ...], place: Place) -> Word:
    """Return the word of a pattern at its place; raise PackError if it does not fit the ports."""
    pattern, part = recipe.patterns[place.pattern], slices[place.part]
    word = unlabelled(cell.dsp, part, place.part, pattern, recipe.known_bits, recipe.zero)
    weights, acts = pattern.weights(place.group, place.tap), pattern.acts(place.column)
    return replace(word, weights=weights, acts=acts)


@lru_cache(1 << 16)
def unlabelled(
    dsp_name: str, part: Part, index: int, pattern: Pattern, known_bits: int, zero: Zero
) -> Word:
    """Return the word of a pattern on part `index`, labelled as the first of its tile."""
    device = dsp(dsp_name)
    weights, acts = pattern.weights(), pattern.acts()
    a_port = device.wide_bits + device.narrow_bits - pattern.w_port
    tricks = port_tricks(part, pattern.w_port, a_port, weights, acts, zero)
    if tricks is None:
        raise PackError(
            f"{pattern} of {part} does not fit ports of {pattern.w_port} and {a_port} bits"
        )
    return make_word(
        device,
        part,
        index,
        weights,
        acts,
        w_port=pattern.w_port,
        known_bits=known_bits,
        zero=zero,
        tricks=tricks,
    )


def as_rows(recipes: Sequence[Recipe]) -> list:
    """Return the recipes of a cell as JSON values: [distinct patterns, one row a recipe]."""
    patterns = list(dict.fromkeys(pattern for recipe in recipes for pattern in recipe.patterns))
    return [
        [list(astuple(pattern)) for pattern in patterns],
        [_row(recipe, patterns) for recipe in recipes],
    ]


def _row(recipe: Recipe, patterns: Sequence[Pattern]) -> list:
    return [
        _LETTERS[recipe.mode],
        recipe.known_bits,
        ZEROS.index(recipe.zero),
        recipe.groups,
        recipe.columns,
        list(astuple(recipe.cut)) if recipe.cut.split else [],
        [patterns.index(pattern) for pattern in recipe.patterns],
        np.diff(
            [np.ravel_multi_index(astuple(place), PLACES) for place in recipe.places], prepend=0
        ).tolist(),
    ]


def from_rows(rows: list) -> tuple[Recipe, ...]:
    """Return the recipes of a cell; raise PackError if the rows are none."""
    try:
        patterns = [Pattern(*(_frozen(value) for value in row)) for row in rows[0]]
        return tuple(_recipe(row, patterns) for row in rows[1])
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise PackError(f"{rows} are not packing recipes: {error!r}") from error


def _recipe(row: list, patterns: Sequence[Pattern]) -> Recipe:
    mode, known_bits, zero, groups, columns, cut, used, steps = row
    return Recipe(
        MODES[mode],
        known_bits,
        ZEROS[zero],
        groups,
        columns,
        Cut(*cut),
        tuple(patterns[index] for index in used),
        tuple(Place(*map(int, np.unravel_index(at, PLACES))) for at in np.cumsum(steps)),
    )


def _frozen(value: int | list[int]) -> int | tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else value
