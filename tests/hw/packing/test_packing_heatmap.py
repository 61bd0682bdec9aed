# SPDX-License-Identifier: Apache-2.0
"""The heat map is a PNG with a panel for each of ours, published and ratio."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw.packing.heatmap import write_heatmap
from hw.packing.search import best_plans


def picture(path: Path, kernel: int, known_bits: int = 0) -> np.ndarray:
    cells = best_plans("dsp48e2", kernel, narrow=False, mode="every", known_bits=known_bits)
    write_heatmap(path, cells, "every")
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_three_panels_beside_the_published_table(tmp_path):
    beside, alone = (picture(tmp_path / f"{kernel}.png", kernel) for kernel in (1, 7))
    assert beside.shape[0] == alone.shape[0]
    assert beside.shape[1] == pytest.approx(3 * alone.shape[1], abs=3)
    assert len(np.unique(alone.reshape(-1, 3), axis=0)) > 40  # the cells' colours


def test_rates_change_the_picture(tmp_path):
    zero, two = (picture(tmp_path / "rates.png", 1, bits) for bits in (0, 2))
    third = zero.shape[1] // 3
    assert (zero[:, :third] != two[:, :third]).any()


def test_any_name_gets_a_png(tmp_path):
    picture(tmp_path / "rates.pdf", 1)
