# SPDX-License-Identifier: Apache-2.0
"""The heat map is a PNG with a panel for each of ours, published and ratio."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hw.packing.heatmap import write_heatmap
from hw.packing.search import best_plans


def picture(path: Path, kernel: int, narrow: bool = False) -> np.ndarray:
    cells = best_plans("dsp48e2", kernel, narrow=narrow, mode="every", known_bits=0)
    write_heatmap(path, cells, "every")
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.slow
def test_three_panels_beside_the_published_table(tmp_path):
    beside, alone = (picture(tmp_path / f"{kernel}.png", kernel) for kernel in (1, 7))
    assert beside.shape[0] == alone.shape[0]
    assert beside.shape[1] == pytest.approx(3 * alone.shape[1], abs=3)
    assert len(np.unique(alone.reshape(-1, 3), axis=0)) > 40  # the cells' colours


@pytest.mark.slow
def test_rates_change_the_picture(tmp_path):
    full, narrow = (picture(tmp_path / "rates.png", 1, narrow) for narrow in (False, True))
    below_title = slice(full.shape[0] // 4, None), slice(full.shape[1] // 3)
    assert (full[below_title] != narrow[below_title]).any()


def test_a_disk_that_refuses_leaves_the_old_picture(tmp_path, monkeypatch):
    path = tmp_path / "rates.png"
    path.write_text("old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space left"):
        picture(path, 1)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_any_name_gets_a_png(tmp_path):
    picture(tmp_path / "rates.pdf", 1)
