# SPDX-License-Identifier: Apache-2.0
"""Synthesis of packed words: one DSP each, and what their logic costs beside it.

    python -m experiments.synth_packing [--plans 120] [--seed 0] [--out FILE]

takes a sample of the plans of the packing tables, synthesises the logic of every word with yosys
(`synth_xilinx -family xcup`), fits the LUTs of `hw.packing.cost` to 70 % of the plans and states
the error of the estimate on the others. Needs pyosys (extra `synth`). Takes about ten minutes.

The LUTs of a stage are LUT1..LUT6 cells plus those that only feed a register or port into a carry
chain (a carry input is reached through a LUT); no two are merged into one dual-output LUT6. P and
its adder belong to the DSP and are not counted: yosys leaves them outside on this family.
"""

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from hw.packing import PackPlan, table
from hw.packing.cost import Counts, counts, interval, lut_per_mac, stage_luts, word_luts
from hw.packing.verilog import tagged, word_verilog

RECORD_VERSION = 1
KERNELS, BITS = (1, 3, 5), range(2, 9)
TRAINING = 0.7
FLOW = "synth_xilinx -family xcup -noiopad -noclkbuf"
RESULT = Path(__file__).parent / "results" / "packing-synthesis.json"


@dataclass(frozen=True)
class Cells:
    """What a module became: LUTs, CARRY4 blocks (four carry bits each), DSPs."""

    lut: int
    carry4: int
    dsp48e2: int


def synthesise(text: str, top: str) -> dict[str, Cells]:
    """Return the cells of every module of Verilog `text`, the hierarchy kept."""
    from pyosys import libyosys

    with tempfile.TemporaryDirectory() as name:
        source, netlist = Path(name, "word.v"), Path(name, "word.json")
        source.write_text(text)
        design = libyosys.Design()
        for command in (
            f"read_verilog {source}",
            f"{FLOW} -top {top}",
            f"write_json {netlist}",
        ):
            libyosys.Pass.call(design, f"tee -q {command}")
        modules = json.loads(netlist.read_text())["modules"]
    return {
        name: count_cells(module["cells"].values())
        for name, module in modules.items()
        if name.startswith(top)
    }


def count_cells(cells: Sequence[dict]) -> Cells:
    """Count the cells of a netlist in yosys' JSON form."""
    kinds = Counter(cell["type"] for cell in cells)
    luts = [cell for cell in cells if re.fullmatch("LUT[1-6]", cell["type"])]
    driven = {cell["connections"]["O"][0] for cell in luts}
    through = sum(
        isinstance(net, int) and net not in driven
        for cell in cells
        if cell["type"] == "CARRY4"
        for net in cell["connections"]["S"]
    )
    return Cells(len(luts) + through, kinds["CARRY4"], kinds["DSP48E2"])
