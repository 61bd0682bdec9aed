# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/packing.md are what the code gives."""

import re
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hw.device import dsp
from hw.packing import patterns, search, tiling, words
from hw.packing.decoding import Decoding, decodings
from hw.packing.geometry import Cut
from hw.packing.published import WIDTHS, mean_ratio, published
from hw.packing.recipe import Cell

DOC = Path(__file__).parents[3] / "docs" / "packing.md"
KERNELS = (1, 3, 5)


def rows(first: str) -> dict[str, list[str]]:
    """Return the cells of the table whose header starts with `first`, by the first cell(s)."""
    lines = DOC.read_text().split(f"| {first} |")[1].split("\n\n")[0].splitlines()[2:]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {cells[0] if first != "mode" else tuple(cells[:2]): cells for cells in found}


def rates(kernel: int, mode: str, known_bits: int, **options) -> tuple[tuple[float, ...], ...]:
    plans = search.best_plans(
        "dsp48e2", kernel, narrow=False, mode=mode, known_bits=known_bits, **options
    )
    return tuple(tuple(float(plans[w, a].macs_per_dsp) for a in WIDTHS) for w in WIDTHS)


RESULTS = rows("mode")


CASES = [  # canaries take their time
    case if case[1] == "0" else pytest.param(case, marks=pytest.mark.slow) for case in RESULTS
]


@pytest.mark.parametrize("case", CASES)
def test_rates_are_those_of_section_8(case):
    mode, known_bits, *means, least = RESULTS[case]
    for kernel, mean, low in zip(KERNELS, means, least.split("/"), strict=True):
        found = rates(kernel, mode, int(known_bits))
        assert f"{mean_ratio(kernel, found):.3f}" == mean
        ratios = np.array(found) / published(kernel)
        assert ratios.min() == pytest.approx(float(low), abs=0.006)


PRICES = rows("plan")


@pytest.mark.parametrize("name", PRICES)
def test_luts_are_about_those_of_section_9(name):
    """Prices are fitted to synthesis, so that a new fit may move them a little."""
    mode, known_bits = re.match(r"(\w+), t (?:<= |= )(\d)", name).groups()
    plans = search.search("dsp48e2", 3, 4, 4, False, mode=mode, known_bits=int(known_bits))
    least = 8 if mode == "chain" else 1
    best = max(
        (plan for plan in plans if plan.chain >= least),
        key=lambda plan: (plan.macs_per_dsp, -plan.lut_per_mac),
    )
    _, macs, luts = PRICES[name]
    assert best.macs_per_dsp == float(macs)
    assert best.lut_per_mac == pytest.approx(float(luts), rel=0.25)


# Techniques switched off -------------------------------------------------------------------------


@cache
def contiguous(taps: int, most: int, span: int):
    whole = tuple(range(span))
    return tuple(one for one in tiling.column_tilings(taps, most, span) if one[1] == (whole,))


def without_tricks(self: Decoding, *given):
    rules = RULES(self, *given)
    return replace(rules, w_flush=False, zero="plain" if self.zero == "folded" else self.zero)


def cut_one_way(words: np.ndarray, axis: int) -> np.ndarray:
    """Return what `tiling.tile_words` does, with cuts across groups (axis -2) or columns only."""
    words = np.moveaxis(words.astype(int), axis, -1)
    for size in range(words.shape[-1]):
        for part in range(size):
            sums = words[..., part] + words[..., size - 1 - part]
            words[..., size] = np.minimum(words[..., size], sums)
    return np.moveaxis(np.minimum(words, tiling.NONE), -1, axis).astype(np.uint8)


RULES = Decoding.rules
OFF = {
    "nothing": None,
    "gapped column sets": ("hw.packing.patterns.column_tilings", contiguous),
    "cuts of the tile": ("hw.packing.words.tile_words", lambda words: words),
    "cuts across groups": ("hw.packing.words.tile_words", partial(cut_one_way, axis=-1)),
    "cuts across columns": ("hw.packing.words.tile_words", partial(cut_one_way, axis=-2)),
    "operand splits": ("hw.packing.search.cuts", lambda *_: iter([Cut()])),
    "port tricks": ("hw.packing.decoding.Decoding.rules", without_tricks),
    "folding": None,
    "folding and centring": None,
}
ZERO_POINTS = {"folding": ("plain", "centred"), "folding and centring": ("plain",)}
CACHES = (words.run_rectangles, words.run_words, words.part_words, patterns.filter_levels)


@pytest.fixture
def fresh_caches():
    for one in CACHES:
        one.cache_clear()
    yield
    for one in CACHES:
        one.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("name", OFF)
def test_gains_are_those_of_section_9(name, fresh_caches, monkeypatch):
    if OFF[name]:
        monkeypatch.setattr(*OFF[name])
    zeros = ZERO_POINTS.get(name, (None,))
    columns = (("every", 2), ("canary", 2), ("canary", 4))
    for (mode, known_bits), means in zip(columns, rows("off")[name][1:], strict=True):
        best = [
            np.max([rates(kernel, mode, known_bits, zero=zero) for zero in zeros], axis=0)
            for kernel in KERNELS
        ]
        found = [
            f"{mean_ratio(kernel, tuple(map(tuple, of))):.3f}"
            for kernel, of in zip(KERNELS, best, strict=True)
        ]
        assert " / ".join(found) == means


def gain_of_runs(kernel: int, mode: str, known_bits: int) -> float:
    """Return a bound on what kernels cut into vertical and horizontal runs gain: any lengths that
    add up to K^2, each at its own best rate.
    """
    ways, gains = decodings(dsp("dsp48e2"), mode, known_bits=known_bits), []
    for bits in product(WIDTHS, WIDTHS):
        cells = [Cell("dsp48e2", run, *bits, False) for run in range(1, kernel + 1)]
        best = [float(search.Tiles(cell, ways).rates.max()) for cell in cells]
        cycles = [0.0]
        for taps in range(1, kernel**2 + 1):
            runs = range(1, min(kernel, taps) + 1)
            cycles.append(min(run / best[run - 1] + cycles[taps - run] for run in runs))
        gains.append(kernel**2 / cycles[-1] / best[-1])
    return float(np.exp(np.mean(np.log(gains))))


@pytest.mark.slow
def test_vertical_runs_gain_no_more_than_section_9_says():
    sentence = DOC.read_text().split("gains at most ")[1].split(". It needs")[0]
    percents = [float(number) for number in re.findall(r"([\d.]+) %", sentence)]
    cases = product((("every", 2), ("canary", 2)), (3, 5))
    found = [100 * (gain_of_runs(kernel, *way) - 1) for way, kernel in cases]
    assert found == pytest.approx(percents, abs=0.06)
