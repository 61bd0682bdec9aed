# SPDX-License-Identifier: Apache-2.0
"""C++ of every process: its configuration, its tables, its call and the type of its words."""

from dataclasses import dataclass, fields

import numpy as np

from hw.cycles import reuse_iterations
from hw.design import LayerDesign
from hw.hls.constants import head_bias, requant_constants, start_rom, weight_rom
from hw.hls.cpp import constant, struct, table
from hw.hls.words import plan_numbers, word_structs
from hw.pipeline import (
    AddStreams,
    Concatenate,
    Fork,
    InputPort,
    MacArray,
    OutputPort,
    PatchBuffer,
    Pool,
    Process,
    Requantise,
    SpaceToDepth,
    Window,
)
from hw.stages import Stage

Named = tuple[tuple[str, str], ...]  # (name, C++ text) pairs
TEMPLATES = {
    Pool: "pool",
    Fork: "fork",
    SpaceToDepth: "space_to_depth",
    PatchBuffer: "patches",
    Concatenate: "concatenate",
}


@dataclass(frozen=True)
class ProcessText:
    """`template`: function in namespace mixq; `structs`: its template arguments as (name, text);
    `tables`: the constant arrays it takes as (name, text); `word`: type of the words it writes.
    """

    template: str
    structs: Named
    tables: Named
    word: str


def process_text(process: Process, stage: Stage, layer: LayerDesign) -> ProcessText:
    """Return the C++ of `process`, which belongs to `stage` as `layer` maps it.

    Raises HlsError for numbers and packing plans that the templates do not cover.
    """
    match process:
        case InputPort(channels=channels, bits=bits):
            word = f"CodeWord<{channels}, {bits}>"
            return ProcessText("input_port", (_config(process),), (), word)
        case Window(kernel_rows=rows, columns=columns, simd=simd, bits=bits):
            word = f"WindowWord<{rows}, {columns}, {simd}, {bits}>"
            config = _config(process, reuse_iterations=reuse_iterations(process))
            return ProcessText("window", (config,), (), word)
        case MacArray(columns=columns, pe=pe, groups=groups, acc_bits=acc_bits):
            word = f"SumWord<{columns}, {pe * groups}, {acc_bits}>"
            return ProcessText("mac_array", *_mac_array(process, stage, layer), word)
        case Requantise(out_parallel=parallel, bits=bits):
            word = f"CodeWord<{parallel}, {bits}>"
            return ProcessText("requantise", *_requantise(process, stage), word)
        case (
            Pool(parallel=parallel, bits=bits)
            | Fork(parallel=parallel, bits=bits, columns=0)
            | SpaceToDepth(parallel=parallel, bits=bits)
            | PatchBuffer(parallel=parallel, bits=bits)
            | Concatenate(parallel=parallel, bits=bits)
        ):
            word = f"CodeWord<{parallel}, {bits}>"
            return ProcessText(TEMPLATES[type(process)], (_config(process),), (), word)
        case AddStreams(parallel=parallel, acc_bits=bits):
            word = f"SumWord<1, {parallel}, {bits}>"
            return ProcessText("add_streams", (_config(process),), (), word)
        case Fork(columns=columns, parallel=parallel, bits=bits):
            word = f"SumWord<{columns}, {parallel}, {bits}>"
            return ProcessText("fork", (_config(process),), (), word)
        case OutputPort(name=name, port_bits=port_bits):
            bias = _table("int", f"{name}_bias", head_bias(stage, process))
            return ProcessText("output_port", (_config(process),), (bias,), f"Beat<{port_bits}>")


def _mac_array(process: MacArray, stage: Stage, layer: LayerDesign) -> tuple[Named, Named]:
    plan = layer.plan
    lanes = process.simd * process.kernel_rows
    config = _config(process, **plan_numbers(plan, lanes, process.decode_cycles))
    rom = weight_rom(stage.conv.weights, process, plan)
    start = start_rom(stage.conv.weights, process, plan)
    return (config, *word_structs(plan, process.name)), (
        _table("mixq::rom_word", f"{process.name}_weights", rom),
        _table("long long", f"{process.name}_start", start),
    )


def _requantise(process: Requantise, stage: Stage) -> tuple[Named, Named]:
    constants = requant_constants(stage, process)
    config = _config(
        process,
        mul_bits=constants.mul_bits,
        bias_bits=constants.bias_bits,
        sum_bits=constants.sum_bits,
        shift=constants.shift,
    )
    mul = _table("long long", f"{process.name}_mul", constants.mul)
    return (config,), (mul, _table("long long", f"{process.name}_bias", constants.bias))


def _config(process: Process, **extra: int) -> tuple[str, str]:
    """Return (name, text) of the struct that holds the process's numbers and `extra`."""
    own = {
        field.name: getattr(process, field.name) for field in fields(process) if field.type is int
    }
    name = f"{process.name}_config"
    members = [f'static constexpr const char* name() {{ return "{process.name}"; }}']
    return name, struct(name, members + [constant(*item) for item in (own | extra).items()])


def _table(kind: str, name: str, values: np.ndarray) -> tuple[str, str]:
    return name, table(kind, name, values)
