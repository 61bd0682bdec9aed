# SPDX-License-Identifier: Apache-2.0
"""The published rates that ours are compared with: search tables of DeepBurning-MixQ (ICCAD 2023).

MACs per DSP48E2 and cycle, rows w = 2..8, columns a = 2..8, from the file dsp_packing.py of its
repository. Part of the entries overflow a port (docs/packing.md).
"""

from collections.abc import Sequence
from fractions import Fraction
from math import exp, log

WIDTHS = range(2, 9)
_TEXT = {
    1: """12 8 8 6 6 4 4 | 10 8 6 6 4 4 4 | 8 6 6 4 4 4 3 | 6 6 4 4 4 4 2
          6 4 4 4 2 2 2 | 4 4 4 4 2 2 2 | 4 4 3 2 2 2 2""",
    3: """18 15 12 7.5 7.5 6 6 | 15 12 7.5 6 6 6 3 | 12 7.5 6 6 6 6 3 | 9 6 6 6 6 3 3
          7.5 6 6 4.5 3 3 3 | 6 6 4.5 3 3 3 2.25 | 6 3 3 3 3 3 2""",
    5: """20 15 10 7.5 7.5 5 5 | 12.5 10 6.67 5 5 5 3.33 | 10 7.5 5 5 5 5 3.33
          7.5 6.67 5 5 5 3.33 3.33 | 6.67 5 5 5 3.33 2.5 2.5 | 5 5 5 3.33 2.5 2.5 2.5
          5 3.33 3.33 3.33 2.5 2.5 2""",
}


def published(kernel: int) -> tuple[tuple[float, ...], ...] | None:
    """Return the published rates [w - 2][a - 2], None for a kernel that has none."""
    if kernel not in _TEXT:
        return None
    values = [float(value) for value in _TEXT[kernel].replace("|", " ").split()]
    return tuple(tuple(values[row : row + 7]) for row in range(0, 49, 7))


def mean_ratio(kernel: int, rates: Sequence[Sequence[Fraction | float]]) -> float:
    """Return the geometric mean of ours / published over the 49 cells."""
    pairs = zip(sum(rates, ()), sum(published(kernel), ()), strict=True)
    return exp(sum(log(float(ours) / theirs) for ours, theirs in pairs) / 49)
