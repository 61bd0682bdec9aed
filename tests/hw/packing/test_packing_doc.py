# SPDX-License-Identifier: Apache-2.0
"""The figures of docs/packing.md are what the code gives."""

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hw.packing import search, tiling
from hw.packing.decoding import Decoding
from hw.packing.geometry import Cut
from hw.packing.published import WIDTHS, mean_ratio, published

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


@pytest.mark.parametrize("case", RESULTS)
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
    return replace(RULES(self, *given), w_flush=False, a_flush=False)


RULES = Decoding.rules
OFF = {
    "nothing": None,
    "gapped column sets": ("hw.packing.patterns.column_tilings", contiguous),
    "cuts of the tile": ("hw.packing.search.tile_words", lambda words: words),
    "operand splits": ("hw.packing.search.cuts", lambda *_: iter([Cut()])),
    "port tricks": ("hw.packing.decoding.Decoding.rules", without_tricks),
    "folding": None,
}
CACHES = (search.run_rectangles, search.run_words, search.part_words)


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
    options = {"zero": "plain"} if name == "folding" else {}
    columns = (("every", 2), ("canary", 2), ("canary", 4))
    for (mode, known_bits), means in zip(columns, rows("off")[name][1:], strict=True):
        found = [
            f"{mean_ratio(kernel, rates(kernel, mode, known_bits, **options)):.3f}"
            for kernel in KERNELS
        ]
        assert " / ".join(found) == means
