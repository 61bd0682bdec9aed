# SPDX-License-Identifier: Apache-2.0
"""Exact search: the fewest words that cover a tile, for every decoding of a cell.

The optimum decomposes. A cut gives parts; in each part the kernel's taps fall into runs, and the
words of a run depend on nothing but the part, the run and the decoding. So `patterns` finds the
words of every run, `tiling` cuts tiles into their rectangles, and here the cheapest runs and cuts
are added up, for all tiles and decodings at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np

from hw.device import Dsp, dsp
from hw.packing.geometry import Cut, cuts, make_word, parts, port_tricks
from hw.packing.patterns import Pattern, Rectangle, Rules, rectangles
from hw.packing.plan import Mode, PackError, PackPlan, Part, Word
from hw.packing.tiling import LARGEST_COLUMNS, LARGEST_GROUPS, LARGEST_WORDS, NONE, tile_words

KERNELS = (1, 3, 5, 7)
WIDEST_BITS = 8
LONGEST_CHAIN = 1 << 12  # decoding less often than that saves nothing any more
CANARY_CHAIN = 1 << 8  # the least that a canary is worth its counters for


def check_cell(kernel: int, w_bits: int, a_bits: int, narrow: bool) -> None:
    """Raise PackError for a kernel or bit width that has no plans."""
    if kernel not in KERNELS:
        raise PackError(f"no packing plans for kernel {kernel}; allowed: {KERNELS}")
    for name, bits, least in (("w_bits", w_bits, 2 if narrow else 1), ("a_bits", a_bits, 1)):
        if not least <= bits <= WIDEST_BITS:
            kind = "narrow " if narrow and name == "w_bits" else ""
            hint = "; a narrow 1-bit weight is always 0" if bits == 1 else ""
            raise PackError(
                f"no packing plans for {kind}{name} {bits}; allowed: {least}..{WIDEST_BITS}{hint}"
            )


# Decodings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decoding:
    """How words are decoded, see PackPlan; `chain` is what must at least be possible."""

    mode: Mode
    known_bits: int
    folded: bool
    chain: int

    def gap_bits(self, spread: int) -> int:
        """Return the least distance from a field of `spread` per product to the next field."""
        t = self.known_bits
        if self.mode == "canary":  # at most 2^t carries: spread + 2^t - 1 <= (2^t - 1) 2^gap
            carries = (1 << t) - 1
            return max(t, (-(-spread // carries)).bit_length())
        return max(t, 1, (self.chain * spread).bit_length() - t)

    def rules(self, device: Dsp, spread: int, taps: int) -> Rules:
        """Return the rules of words of `taps` taps whose products have the given spread."""
        return Rules(
            tuple(self.gap_bits(terms * spread) for terms in range(1, taps + 1)),
            min(
                device.p_bits - (self.chain * spread).bit_length(),
                device.wide_bits + device.narrow_bits,
            ),
            device.w_mux or self.mode == "every",
            self.folded,
        )

    def suits(self, part: Part) -> bool:
        """Tell whether a part has the bits that more than two known bits are taken from."""
        return self.known_bits <= 2 or self.known_bits <= min(part.w_bits, part.a_bits)


Asked = Literal["best", "every", "chain", "canary"]


@cache
def decodings(
    device: Dsp,
    mode: Asked = "best",
    chain: int = 1,
    known_bits: int = 4,
    folded: bool | None = None,
) -> tuple[Decoding, ...]:
    """Return the decodings of a device, cheapest hardware first."""
    doublings = [1 << n for n in range(1, LONGEST_CHAIN.bit_length())]
    chains = sorted({max(chain, 2, device.summed), *(n for n in doublings if n > chain)})
    lengths: dict[Mode, list[int]] = {
        "every": [1] if chain == device.summed == 1 else [],
        "chain": [n for n in reversed(chains) if n >= device.summed],
        "canary": [max(chain, CANARY_CHAIN)] if device.multipliers == 1 else [],
    }
    known = {"every": range(3), "chain": range(3), "canary": range(1, 5)}
    return tuple(
        Decoding(name, t, fold, length)
        for t in range(known_bits + 1)
        for fold in (False, True)
        for name in ("every", "chain", "canary")
        if mode in ("best", name) and t in known[name] and folded in (None, fold)
        for length in lengths[name]
    )


# Words of a tile -----------------------------------------------------------------------------


@cache
def run_rectangles(
    device: Dsp, part: Part, taps: int, rules: Rules
) -> dict[tuple[int, int], Rectangle]:
    """Return the cheapest rectangle of every size over both assignments of the ports."""
    ports = (device.wide_bits, device.narrow_bits)
    found = rectangles(part, taps, ports, rules)
    if ports[0] != ports[1]:
        for size, rectangle in rectangles(part, taps, ports[::-1], rules).items():
            if size not in found or rectangle.words < found[size].words:
                found[size] = rectangle
    return found


@cache
def run_words(device: Dsp, part: Part, kernel: int, ways: tuple[Decoding, ...]) -> np.ndarray:
    """Return the least words `[way, taps - 1, groups - 1, columns - 1]` of a run's tile."""
    least: dict[tuple[int, Rules], np.ndarray] = {}
    keys = [
        [(taps, way.rules(device, part.spread(way.folded), taps)) for taps in range(1, kernel + 1)]
        for way in ways
    ]
    for taps, rules in {key for row in keys for key in row}:
        words = np.full((LARGEST_GROUPS, LARGEST_COLUMNS), NONE, np.uint8)
        for (groups, columns), rectangle in run_rectangles(device, part, taps, rules).items():
            words[groups - 1, columns - 1] = rectangle.words
        least[taps, rules] = words
    tiled = dict(zip(least, tile_words(np.stack(list(least.values()))), strict=True))
    none = np.full_like(words, NONE)
    return np.array(
        [
            [tiled[key] if way.suits(part) else none for key in row]
            for way, row in zip(ways, keys, strict=True)
        ]
    )


def in_place(part: Part) -> Part:
    """Return the part without its position in the operands, which words do not depend on."""
    return replace(part, w_low=0, w_round=0, a_low=0)


@cache
def part_words(device: Dsp, part: Part, kernel: int, ways: tuple[Decoding, ...]) -> np.ndarray:
    """Return the least words `[way, taps, groups - 1, columns - 1]`, taps cut into runs."""
    runs = run_words(device, in_place(part), max(KERNELS), ways)
    words = np.zeros_like(runs, shape=(len(ways), max(KERNELS) + 1, *runs.shape[2:]))
    for taps in range(1, max(KERNELS) + 1):
        options = [words[:, taps - run] + runs[:, run - 1] for run in range(1, taps + 1)]
        words[:, taps] = np.minimum(np.min(options, axis=0), NONE)
    return words
