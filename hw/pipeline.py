# SPDX-License-Identifier: Apache-2.0
"""Processes and streams of the accelerator: the one structure behind cycles, simulation and HLS.

Every process is one loop with initiation interval 1. What an iteration reads and writes is a
static function of its index (docs/cycles.md), so closed forms, the simulator and the C++ agree by
construction. Feature maps travel row -> channel group -> column; a word holds the channels of one
group at one column, lowest channel in the low bits.
"""

from dataclasses import dataclass
from typing import get_args


@dataclass(frozen=True)
class Stream:
    """FIFO between two processes. `tokens` words of `width_bits` per frame, `depth` words deep."""

    name: str
    producer: str
    consumer: str
    width_bits: int
    tokens: int
    depth: int


@dataclass(frozen=True)
class InputPort:
    """Image beats of `port_bits` -> one word of `channels` pixels (top `bits` of each) per column.

    Each frame starts on a fresh beat; the last beat of a frame may be partly empty.
    """

    name: str
    height: int
    width: int
    channels: int
    pixel_bits: int
    bits: int
    port_bits: int


@dataclass(frozen=True)
class Window:
    """Line buffer of one convolution: K + 1 row banks, zero padding, re-reads per output group.

    Input word: `in_parallel` channels of one column. Output word: [kernel_rows][columns][simd].
    `groups_out`: how often each row is read; `column_steps` = ceil((W + 2 pad) / columns);
    `word_steps`: how often each column step is read, once per word of the packing plan. A
    `depthwise` window sends only the channels that belong to the output group.
    """

    name: str
    height: int
    width: int
    channels: int
    bits: int
    kernel: int
    padding: int
    in_parallel: int
    simd: int
    kernel_rows: int
    columns: int
    groups_out: int
    column_steps: int
    word_steps: int
    depthwise: int = 0


@dataclass(frozen=True)
class MacArray:
    """Packed array: window words -> accumulators [columns][out_parallel] once per column step.

    pe x kernel_rows x simd multipliers run the plan's `word_steps` words in turn. The products of
    `link` neighbouring multipliers are summed in one accumulator, which is decoded after
    `decode_cycles` cycles and at the end of every word step. In a `depthwise` array (in_channels =
    simd = groups = 1) PE n takes channel n of the window word, in a dense one all take all.
    """

    name: str
    layer: str
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: int
    pe: int
    simd: int
    kernel_rows: int
    groups: int
    columns: int
    column_steps: int
    word_steps: int
    link: int
    decode_cycles: int
    acc_bits: int
    depthwise: int = 0


@dataclass(frozen=True)
class Requantise:
    """Accumulators -> codes: `lanes` a cycle, drops the columns that padding made, joins words.

    Behind an addition with kernel 1 and one column.
    """

    name: str
    node: str
    height: int
    width: int
    out_channels: int
    out_parallel: int
    lanes: int
    kernel: int
    columns: int
    column_steps: int
    acc_bits: int
    bits: int


@dataclass(frozen=True)
class Pool:
    """2x2 maximum on the stream of codes; one word per cycle in, one per four out."""

    name: str
    height: int
    width: int
    out_channels: int
    parallel: int
    bits: int


@dataclass(frozen=True)
class Fork:
    """Every word to two streams: codes, or accumulators of `columns` columns if that is not 0.

    A row of `width` columns of words.
    """

    name: str
    height: int
    width: int
    channels: int
    parallel: int
    bits: int
    columns: int = 0


@dataclass(frozen=True)
class SpaceToDepth:
    """`block` x `block` pixels -> channels, in words of as many channels as before.

    Two memories of `block` rows in turn: one is written while the other is sent.
    """

    name: str
    height: int
    width: int
    channels: int
    parallel: int
    bits: int
    block: int


@dataclass(frozen=True)
class PatchBuffer:
    """What each step of a strided convolution sees, in words of as many channels as before.

    A ring of rows: while `stride` rows come, the patches of one output row are sent, in the order
    kernel row -> kernel column -> channel group -> output column.
    """

    name: str
    height: int
    width: int
    channels: int
    parallel: int
    bits: int
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Concatenate:
    """The channels of two streams, row by row: all words of the first, then of the second."""

    name: str
    height: int
    width: int
    first_channels: int
    second_channels: int
    parallel: int
    bits: int


@dataclass(frozen=True)
class AddStreams:
    """Codes of two streams -> their sums, word by word."""

    name: str
    height: int
    width: int
    channels: int
    parallel: int
    first_bits: int
    second_bits: int
    acc_bits: int


@dataclass(frozen=True)
class OutputPort:
    """Accumulators of the head -> beats of `values_per_beat` int32, bias added, trimmed."""

    name: str
    node: str
    height: int
    width: int
    out_channels: int
    out_parallel: int
    values_per_beat: int
    kernel: int
    columns: int
    column_steps: int
    acc_bits: int
    port_bits: int


Process = (
    InputPort
    | Window
    | MacArray
    | Requantise
    | Pool
    | Fork
    | SpaceToDepth
    | PatchBuffer
    | Concatenate
    | AddStreams
    | OutputPort
)
PROCESSES: tuple[type, ...] = get_args(Process)


@dataclass(frozen=True)
class Pipeline:
    """Processes in stream order and the FIFOs between them (first and last are the ports).

    A process reads its input streams, and writes its output streams, in the order they have here.
    """

    processes: tuple[Process, ...]
    streams: tuple[Stream, ...]

    def inputs(self, process: str) -> tuple[Stream, ...]:
        return tuple(stream for stream in self.streams if stream.consumer == process)

    def outputs(self, process: str) -> tuple[Stream, ...]:
        return tuple(stream for stream in self.streams if stream.producer == process)
