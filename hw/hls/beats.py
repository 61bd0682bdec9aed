# SPDX-License-Identifier: Apache-2.0
"""DMA buffers of the accelerator's ports: little-endian beats, frame after frame."""

import numpy as np

from hw.hls.build_plan import HlsError
from hw.intmath import ceil_div
from hw.pipeline import InputPort, OutputPort


def pack_frames(port: InputPort, frames: np.ndarray) -> bytes:
    """Return the beats that carry `frames`, unsigned integers `[N, H, W, C]`.

    Pixels lie without gaps, each frame is filled up to whole beats. Raises HlsError for frames of
    another shape or range.
    """
    shape = (port.height, port.width, port.channels)
    if frames.ndim != 4 or frames.shape[1:] != shape or frames.dtype.kind not in "iu":
        raise HlsError(
            f"frames are {frames.dtype} {frames.shape}; port '{port.name}' takes integers "
            f"[N, {shape[0]}, {shape[1]}, {shape[2]}]"
        )
    if not frames.size or frames.min() < 0 or frames.max() >> port.pixel_bits:
        raise HlsError(
            f"port '{port.name}' takes at least one frame of pixels in "
            f"0..{(1 << port.pixel_bits) - 1}"
        )
    pixels = frames.reshape(len(frames), -1, 1)
    bits = ((pixels >> np.arange(port.pixel_bits)) & 1).astype(np.uint8).reshape(len(frames), -1)
    padding = -bits.shape[1] % port.port_bits
    return np.packbits(np.pad(bits, ((0, 0), (0, padding))), bitorder="little").tobytes()


def pack_results(port: OutputPort, results: np.ndarray) -> bytes:
    """Return the beats that carry `results`, integers `[N, H, W, C]` of 32 bits.

    Order: row -> channel group -> column -> channel; `values_per_beat` int32 in a beat, the rest of
    it is zero.
    """
    grouped = results.reshape(*results.shape[:3], -1, port.out_parallel).transpose(0, 1, 3, 2, 4)
    beats = grouped.reshape(-1, port.values_per_beat).astype("<i4")
    unused = port.port_bits // 32 - port.values_per_beat
    return np.pad(beats, ((0, 0), (0, unused))).tobytes()


def unpack_results(port: OutputPort, beats: bytes) -> np.ndarray:
    """Return the int64 `[N, H, W, C]` that `beats` carry: the inverse of pack_results."""
    values = np.frombuffer(beats, "<i4").reshape(-1, port.port_bits // 32)
    groups = port.out_channels // port.out_parallel
    grouped = values[:, : port.values_per_beat].reshape(
        -1, port.height, groups, port.width, port.out_parallel
    )
    ordered = grouped.transpose(0, 1, 3, 2, 4)
    return ordered.reshape(*ordered.shape[:3], port.out_channels).astype(np.int64)


def input_beats(port: InputPort) -> int:
    """Return the beats of one frame at the input port."""
    return ceil_div(port.height * port.width * port.channels * port.pixel_bits, port.port_bits)


def output_beats(port: OutputPort) -> int:
    """Return the beats of one frame at the output port."""
    return port.height * port.width * (port.out_channels // port.values_per_beat)
