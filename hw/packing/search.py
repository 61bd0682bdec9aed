# SPDX-License-Identifier: Apache-2.0
"""Search of a cell: its Pareto set of plans, and the fastest plans for what layers need.

`words` gives the fewest words of every (decoding, cut, tile). Here the tiles are chosen, priced and
compared. docs/packing.md, section 7.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from hw.device import dsp
from hw.packing.cost import LINK, REDUCTION
from hw.packing.decoding import LONGEST_CHAIN, Asked, Decoding, decodings
from hw.packing.geometry import cuts
from hw.packing.plan import PackError, PackPlan, Zero
from hw.packing.prove import certify
from hw.packing.recipe import Cell, Recipe, build, outline
from hw.packing.tiling import LARGEST_COLUMNS, LARGEST_GROUPS, LARGEST_WORDS
from hw.packing.words import Decodings, assemble, cut_words

KERNELS = (1, 3, 5, 7)
WIDEST_BITS = 8
SEARCHED_BITS = range(2, WIDEST_BITS + 1)  # the widths that a network search chooses from


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


# What layers ask for -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Need:
    """What a layer may ask of a plan: a decoding, and a tile whose groups divide `groups` (0: any)
    and that has at most `columns` columns. `fastest`: only the fastest plan, not the Pareto set.
    """

    groups: int = 0
    columns: int = LARGEST_COLUMNS
    fastest: bool = True
    suits: Callable[[Decoding], bool] = lambda way: True


def _unfolded(way: Decoding) -> bool:
    return way.zero != "folded"


_DENSE, _DEPTHWISE = (8, 12), (1, 12)
NEEDS = (
    *(Need(*tile, fastest=False) for tile in ((), _DENSE, _DEPTHWISE)),
    *(Need(*tile) for tile in ((1, 1), (2,), (4,), (0, 4))),
    *(Need(*tile, suits=_unfolded) for tile in ((), _DENSE, _DEPTHWISE)),
)
BUDGETS = (1, 3, LARGEST_WORDS)
"""Words of a part, at most: of every cut and decoding the fastest tile with each of these is looked
at. Words of one shape are cheap in LUTs, and few words have few shapes."""
COUNTER_BITS = 8  # of a canary, about
GUESS_ERROR = 0.08
"""By how much guessed LUTs must be more before a plan is left out that is no better otherwise."""


@dataclass(frozen=True)
class Found:
    """A recipe and what decides whether it is kept; `luts` is `PackPlan.lut_per_mac`."""

    recipe: Recipe
    rate: float
    luts: float
    chain: int
    biased: bool

    @property
    def tile(self) -> tuple[int, int]:
        return self.recipe.groups, self.recipe.columns

    def order(self) -> tuple:
        """Sort key: highest rate first, then cheapest, then the smallest tile."""
        return -self.rate, self.luts, *self.tile, -self.chain, self.biased


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
    """Return the Pareto set of a cell's plans for the NEEDS of layers, best rate first.

    The Pareto set over (rate, LUTs, chain, bias) of all plans, of those for dense layers and of
    those for depthwise ones, and the fastest plans for other tiles. Every plan holds `chain`
    products in P or more, has `known_bits` or fewer and the zero point `zero` (None: any). Raises
    PackError for a kernel, width or option without plans, DeviceError for an unknown DSP.
    """
    cell = Cell(dsp_name, kernel, w_bits, a_bits, narrow)
    ways = decodings(dsp(dsp_name), mode, chain, known_bits, zero)
    return tuple(build(cell, recipe) for recipe in recipes(cell, ways))


def recipes(cell: Cell, ways: Decodings) -> tuple[Recipe, ...]:
    """Return the recipes of `search`, restricted to the given decodings."""
    check_cell(cell)
    tiles, kept = Tiles(cell, ways), {}
    for need in NEEDS:
        chosen = front(tiles.priced(need))
        kept.update({found.recipe: found for found in (chosen[:1] if need.fastest else chosen)})
    return tuple(found.recipe for found in front(kept.values(), tiles=True))


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

    Of equally fast ones the one with the fewest LUTs. Options and errors as for `search`; raises
    PackError where no plan satisfies the options.
    """
    device, best = dsp(dsp_name), {}
    ways = decodings(device, mode, chain, known_bits, zero)
    if not ways:
        able = sorted({way.mode for way in decodings(device)})
        raise PackError(
            f"{dsp_name} has no mode '{mode}' with chains of {chain} and {known_bits} known bits; "
            f"its modes are {', '.join(able)} ('every' holds one product, 'canary' needs a known "
            "bit)"
        )
    for bits in product(SEARCHED_BITS, SEARCHED_BITS):
        cell = Cell(dsp_name, kernel, *bits, narrow)
        check_cell(cell)
        fastest = Tiles(cell, ways).fastest()
        if not fastest:
            raise PackError(
                f"{cell} has no plan of mode '{mode}' with chains of {chain} and {known_bits} "
                "known bits; allow shorter chains or more known bits"
            )
        best[bits] = certify(build(cell, min(fastest, key=Found.order).recipe))
    return best


# Tiles -------------------------------------------------------------------------------------------


@cache
def _allowed(groups: int, columns: int) -> np.ndarray:
    """Return the flat indices of the tiles `[groups - 1, columns - 1]` that a need allows."""
    g, x = np.indices((LARGEST_GROUPS, LARGEST_COLUMNS)) + 1
    return np.flatnonzero((groups % g == 0) & (x <= columns))


class Tiles:
    """The fewest words of every cut, decoding and tile of a cell, and the prices of some.

    Rows are pairs of a cut and a decoding, columns of `words` and `rates` are tiles.
    """

    def __init__(self, cell: Cell, ways: Decodings):
        self.cell, self.ways = cell, ways
        g, x = np.indices((LARGEST_GROUPS, LARGEST_COLUMNS)) + 1
        self.products = (cell.kernel * g * x).ravel() * dsp(cell.dsp).multipliers
        self.cuts = tuple(cuts(cell.w_bits, cell.a_bits))
        found = [cut_words(cell, cut, ways) for cut in self.cuts] if ways else []
        self.words = _joined([part.words.reshape(len(part.words), -1) for part in found])
        self.rates = np.where(
            self.words <= LARGEST_WORDS, self.products / np.maximum(self.words, 1), 0
        ).astype(np.float32)  # quotients of small integers: equal ones stay equal
        self.cut_of = np.repeat(np.arange(len(found)), [len(part.words) for part in found])
        self.way_of = _joined([part.ways for part in found])
        self.chains = _joined([part.chains for part in found])
        self.per_output, self.per_product = _guesses(cell, self)
        self._prices: dict[tuple[int, int], Found] = {}

    def price(self, row: int, tile: int) -> Found:
        """Return the recipe of a tile (its flat index) with its price."""
        if (row, tile) not in self._prices:
            size = tile // LARGEST_COLUMNS + 1, tile % LARGEST_COLUMNS + 1
            way, chain = int(self.way_of[row]), int(self.chains[row])
            cut = self.cuts[self.cut_of[row]]
            recipe = assemble(self.cell, cut, self.ways, way, chain, size)
            plan = outline(self.cell, recipe)
            rate = self.products[tile] / len(recipe.places)
            chain = min(plan.chain, LONGEST_CHAIN)
            self._prices[row, tile] = Found(recipe, rate, plan.lut_per_mac, chain, plan.biased)
        return self._prices[row, tile]

    def priced(self, need: Need) -> list[Found]:
        """Return what a need's plans are chosen from.

        For every budget the fastest tile of each cut and decoding, if it is `_undominated`.
        """
        allowed = _allowed(need.groups, need.columns)
        suits = np.array([need.suits(way) for way in self.ways], bool)[self.way_of]
        rates, words = self.rates[:, allowed], self.words[:, allowed]
        parts = np.where(self.cut_of > 0, 2, 1)[:, None]  # cuts[0] is none
        chosen: set[tuple[int, int]] = set()
        for budget in BUDGETS[-1:] if need.fastest else BUDGETS:
            most = np.minimum(budget * parts, LARGEST_WORDS)
            within = np.where(words <= most, rates, 0)
            at = within.argmax(1)
            fastest = np.where(suits, within[np.arange(len(at)), at], 0)
            tiles = allowed[at]
            rows = self._undominated(fastest, self.guessed_luts(tiles))
            chosen.update((row, int(tiles[row])) for row in rows)
        return [self.price(*key) for key in sorted(chosen)]

    def guessed_luts(self, tiles: np.ndarray) -> np.ndarray:
        """Return roughly the LUTs per product of one tile of every row: by outputs and products."""
        columns, kernel = tiles % LARGEST_COLUMNS + 1, self.cell.kernel
        outputs = (columns + kernel - 1) / (kernel * columns)  # of groups (columns + K - 1)
        return self.per_output * outputs + self.per_product

    def _undominated(self, rates: np.ndarray, luts: np.ndarray) -> list[int]:
        """Return the rows that no other of their family equals in rate and chain and undercuts in
        LUTs by more than these are guessed right; one without any is never left out.
        """
        chains, found = np.minimum(self.chains, LONGEST_CHAIN), []
        order = np.lexsort((luts, -chains, -rates, self.way_of))
        order = order[rates[order] > 0]
        for rows in np.split(order, np.flatnonzero(np.diff(self.way_of[order])) + 1):
            kept: list[int] = []
            for row in rows.tolist():
                cheap = luts[kept] < (1 - GUESS_ERROR) * luts[row]
                if not (cheap & (chains[kept] >= chains[row])).any():
                    kept.append(row)
            found += kept
        return found

    def fastest(self) -> list[Found]:
        """Return recipes of the highest rate, the smallest tile of every cut and decoding."""
        highest = self.rates.max(1, initial=0)
        rows = np.flatnonzero((highest == highest.max(initial=0)) & (highest > 0))
        return [self.price(row, int(self.rates[row].argmax())) for row in rows.tolist()]


def _guesses(cell: Cell, tiles: "Tiles") -> tuple[np.ndarray, np.ndarray]:
    """Return rough LUTs of every row per output and per product (the counts of `cost`, no shapes).

    Accumulators, decoding and canaries belong to outputs, known bits to products.
    """
    per_output, per_product = np.zeros((2, len(tiles.chains)))
    for index, cut in enumerate(tiles.cuts):
        for at, way in enumerate(tiles.ways):
            rows = np.flatnonzero((tiles.cut_of == index) & (tiles.way_of == at))
            chains, t, counted = tiles.chains[rows], way.known_bits, way.mode == "canary"
            sharing = 1 if counted else np.minimum(chains, LINK)
            for part in cell.parts(cut):
                spread = part.spread(way.zero)
                sums = np.where(counted | (chains < REDUCTION), _bits(REDUCTION * spread), 0)
                read = _bits(np.minimum(chains, REDUCTION) * spread) if t else 0
                per_output[rows] += (sums + read) / sharing
                if t:
                    per_product[rows] += min(part.w_bits, t + 1) + min(part.a_bits, t)
                if counted:
                    per_output[rows] += t + COUNTER_BITS
    return per_output, per_product


def _bits(values: int | np.ndarray) -> np.ndarray:
    return np.ceil(np.log2(values + 1))


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros((0, 1), int)


def front(found: Iterable[Found], tiles: bool = False) -> list[Found]:
    """Return what nothing else covers, best first. With `tiles` a larger tile is worse, too."""
    kept: list[Found] = []
    for one in sorted(found, key=Found.order):
        if not any(covers(other, one, tiles) for other in kept):
            kept.append(one)
    return kept


def covers(one: Found, other: Found, tiles: bool) -> bool:
    """Tell whether `one` is nowhere worse, with `tiles` also in its tile: a divisor of the other's
    groups never is.
    """
    (groups, columns), (other_groups, other_columns) = one.tile, other.tile
    return (
        one.rate >= other.rate
        and one.luts <= other.luts
        and one.chain >= other.chain
        and one.biased <= other.biased
        and (not tiles or (other_groups % groups == 0 and columns <= other_columns))
    )
