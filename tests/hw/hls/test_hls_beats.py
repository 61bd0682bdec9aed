# SPDX-License-Identifier: Apache-2.0
"""Frames and results as DMA buffers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.hls import HlsError
from hw.hls.beats import input_beats, output_beats, pack_frames, pack_results, unpack_results
from hw.pipeline import InputPort, OutputPort

PORT = InputPort("input", 2, 3, 3, pixel_bits=8, bits=4, port_bits=64)


def test_pixels_lie_in_order_and_frames_on_fresh_beats():
    frames = np.arange(36).reshape(2, 2, 3, 3)
    zeros = bytes(6)
    assert pack_frames(PORT, frames) == bytes(range(18)) + zeros + bytes(range(18, 36)) + zeros
    assert input_beats(PORT) == 3


@given(st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_narrow_and_wide_pixels(pixel_bits, seed):
    port = InputPort("input", 3, 2, 2, pixel_bits, 1, port_bits=32)
    frames = np.random.default_rng(seed).integers(0, 1 << pixel_bits, (2, 3, 2, 2))
    beats = pack_frames(port, frames)
    per_frame = len(beats) // 2
    assert per_frame == 4 * input_beats(port)
    for index, frame in enumerate(frames):
        number = int.from_bytes(beats[index * per_frame :][:per_frame], "little")
        pixels = [int(pixel) << (pixel_bits * i) for i, pixel in enumerate(frame.ravel())]
        assert number == sum(pixels)


@given(st.sampled_from(((6, 6, 2), (6, 3, 1), (8, 4, 2), (5, 1, 1), (8, 8, 8))), st.integers(0, 99))
def test_results_come_back(shape, seed):
    channels, parallel, values = shape
    port = OutputPort("output", "conv", 2, 3, channels, parallel, values, 1, 1, 3, 20, 256)
    results = np.random.default_rng(seed).integers(-(1 << 31), 1 << 31, (2, 2, 3, channels))
    beats = pack_results(port, results)
    assert len(beats) == 2 * output_beats(port) * 256 // 8
    assert np.array_equal(unpack_results(port, beats), results)


def test_order_of_results():
    port = OutputPort("output", "conv", 1, 2, 4, 2, 1, 1, 1, 2, 20, 64)
    results = np.array([[[[0, 1, 2, 3], [4, 5, 6, 7]]]])
    values = np.frombuffer(pack_results(port, results), "<i4")
    assert values.tolist() == [0, 0, 1, 0, 4, 0, 5, 0, 2, 0, 3, 0, 6, 0, 7, 0]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((1, 2, 3, 4), int), r"int64 \(1, 2, 3, 4\); port 'input' takes .*\[N, 2, 3, 3\]"),
        (np.zeros((1, 2, 3, 3)), r"frames are float64"),
        (np.zeros((0, 2, 3, 3), int), r"at least one frame"),
        (np.full((1, 2, 3, 3), 256), r"pixels in 0..255"),
        (np.full((1, 2, 3, 3), -1), r"pixels in 0..255"),
    ],
)
def test_wrong_frames_are_refused(frames, message):
    with pytest.raises(HlsError, match=message):
        pack_frames(PORT, frames)
