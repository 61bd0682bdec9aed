# SPDX-License-Identifier: Apache-2.0
"""The published table as printed, and the mean that ours is compared by."""

from itertools import pairwise

import pytest

from hw.packing.published import WIDTHS, mean_ratio, published


@pytest.mark.parametrize(
    ("kernel", "corners"), [(1, (12, 4, 4, 2)), (3, (18, 6, 6, 2)), (5, (20, 5, 5, 2))]
)
def test_published_rates(kernel, corners):
    rates = published(kernel)
    assert [len(row) for row in rates] == [len(WIDTHS)] * len(WIDTHS)
    assert (rates[0][0], rates[0][-1], rates[-1][0], rates[-1][-1]) == corners
    assert all(left >= right for row in rates for left, right in pairwise(row))


def test_a_kernel_of_seven_was_not_published():
    assert published(7) is None


def test_mean_ratios():
    rates = published(3)
    assert mean_ratio(3, rates) == pytest.approx(1)
    assert mean_ratio(3, tuple(tuple(2 * rate for rate in row) for row in rates)) == pytest.approx(
        2
    )
    one = ((8 * rates[0][0], *rates[0][1:]), *rates[1:])
    assert mean_ratio(3, one) == pytest.approx(8 ** (1 / 49))
