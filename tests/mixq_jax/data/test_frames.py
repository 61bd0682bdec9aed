# SPDX-License-Identifier: Apache-2.0
"""Frames left in their files answer like an array of their pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixq_jax.data import SyntheticConfig, generate, load
from mixq_jax.data.frames import FrameFiles

COUNT = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames") / "set"
    generate(folder, SyntheticConfig(width=48, height=32, train_frames=COUNT, test_frames=2))
    return folder


@pytest.fixture(scope="module")
def both(folder):
    return tuple(load(folder, 8, 12, "train", limit_bytes=limit).images for limit in (np.inf, 0))


@given(st.slices(COUNT) | st.lists(st.integers(0, COUNT - 1)).map(lambda r: np.array(r, np.int32)))
def test_rows_are_those_of_the_array(both, rows):
    array, files = both
    assert len(files) == len(array)
    assert np.array_equal(files[rows], array[rows])


def test_a_set_above_the_limit_stays_in_its_files(folder):
    exactly = COUNT * 8 * 12 * 3
    at, above = (
        load(folder, 8, 12, "train", limit_bytes=limit) for limit in (exactly, exactly - 1)
    )
    assert isinstance(at.images, np.ndarray)
    assert isinstance(above.images, FrameFiles)
    assert at.names == above.names
    assert np.array_equal(at.boxes, above.boxes)
    assert np.array_equal(at.weights, above.weights)
    head = above.head(3)
    assert np.array_equal(head.images, at.images[:3])
