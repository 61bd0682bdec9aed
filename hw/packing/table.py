# SPDX-License-Identifier: Apache-2.0
"""PackTable: the plans of one DSP and kernel side, and the choice among them for a layer.

`tables.json` keeps the recipes that `search` found for the DSPs of our FPGA parts; other DSPs are
searched on demand. Plans are built from their recipes and their rules are checked again, so a
damaged file cannot yield a wrong plan. `write_tables` regenerates the file, which follows the
search and the prices of `hw.packing.cost`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hw.device import DEVICES, DSPS, dsp
from hw.packing.decoding import decodings
from hw.packing.plan import PackError, PackPlan
from hw.packing.prove import certify
from hw.packing.recipe import Cell, Recipe, as_rows, build, from_rows
from hw.packing.search import KERNELS, WIDEST_BITS, check_cell, recipes

VERSION = 5
PATH = Path(__file__).with_name("tables.json")
STORED = tuple(sorted({device.dsp_type for device in DEVICES.values()}))


@dataclass(frozen=True)
class PackTable:
    """Plans of every (w_bits, a_bits) cell for one DSP, kernel side and weight range.

    Activations are unsigned codes. Signed ones use the same plans: they enter as
    a + 2^(a_bits - 1), and the difference is a constant of the weights.
    """

    dsp: str
    kernel: int
    narrow: bool = True

    def plans(self, w_bits: int, a_bits: int) -> tuple[PackPlan, ...]:
        """Return the cell's plans, highest `macs_per_dsp` first, each with an interval proof.

        Raises PackError for widths outside 1..8 (2..8 for narrow weights).
        """
        return _plans(Cell(self.dsp, self.kernel, w_bits, a_bits, self.narrow))

    def best(
        self,
        w_bits: int,
        a_bits: int,
        out_channels: int | None = None,
        depthwise: bool = False,
        width: int | None = None,
    ) -> PackPlan:
        """Return the fastest plan that a layer can use.

        A dense layer needs `groups` to divide `out_channels` (None: any), a depthwise layer one
        group, because its output channels do not share an activation; a tile has at most `width`
        columns (None: any). Raises PackError for `out_channels` or `width` < 1 and as `plans` does.
        """
        for name, given in (("out_channels", out_channels), ("width", width)):
            if given is not None and given < 1:
                raise PackError(f"{name} {given} must be at least 1")
        return next(
            plan
            for plan in self.plans(w_bits, a_bits)
            if plan.groups == 1 or not (depthwise or (out_channels or 0) % plan.groups)
            if width is None or plan.columns <= width
        )


def table(dsp_name: str, kernel: int, narrow: bool = True) -> PackTable:
    """Return the table of a DSP and kernel side; raise PackError naming what is known."""
    if dsp_name not in DSPS:
        raise PackError(f"no packing table for DSP '{dsp_name}'; known: {', '.join(sorted(DSPS))}")
    check_cell(Cell(dsp_name, kernel, WIDEST_BITS, WIDEST_BITS, narrow))
    return PackTable(dsp_name, kernel, narrow)


@cache
def _plans(cell: Cell) -> tuple[PackPlan, ...]:
    check_cell(cell)
    found = stored_recipes(cell) if cell.dsp in STORED else searched_recipes(cell)
    return tuple(certify(build(cell, recipe)) for recipe in found)


def searched_recipes(cell: Cell) -> tuple[Recipe, ...]:
    """Search a cell for what the table holds of it."""
    return recipes(cell, decodings(dsp(cell.dsp)))


def stored_recipes(cell: Cell, path: Path = PATH) -> tuple[Recipe, ...]:
    """Return what a tables file holds for a cell; raise PackError if it holds nothing."""
    rows = read_tables(path).get(_key(cell))
    if rows is None:
        raise PackError(f"{path.name} has no plans for {cell}; regenerate it with write_tables")
    return from_rows(rows)


@cache
def read_tables(path: Path) -> dict[str, list]:
    """Return the rows of a tables file by cell; raise PackError for an unknown version."""
    content = json.loads(path.read_text())
    if content["version"] != VERSION:
        raise PackError(
            f"{path.name} has version {content['version']}, this code reads {VERSION}; "
            "regenerate it with hw.packing.table.write_tables"
        )
    return content["cells"]


def _key(cell: Cell) -> str:
    weights = "narrow" if cell.narrow else "full"
    return f"{cell.dsp} k{cell.kernel} w{cell.w_bits} {weights} a{cell.a_bits}"


def cells(dsp_name: str) -> list[Cell]:
    """Return every cell of a DSP."""
    return [
        Cell(dsp_name, kernel, w_bits, a_bits, narrow)
        for kernel in KERNELS
        for narrow in (True, False)
        for w_bits in range(2 if narrow else 1, WIDEST_BITS + 1)
        for a_bits in range(1, WIDEST_BITS + 1)
    ]


def tables_text() -> str:
    """Search every stored cell anew and return the text of tables.json, one cell a line."""
    lines = ",\n".join(_line(cell) for name in STORED for cell in cells(name))
    return f'{{"version": {VERSION}, "cells": {{\n{lines}}}}}\n'


def _line(cell: Cell) -> str:
    rows = as_rows(searched_recipes(cell))
    return f"{json.dumps(_key(cell))}: {json.dumps(rows, separators=(',', ':'))}"


def write_tables(path: Path = PATH) -> None:
    """Search every stored cell anew (half an hour) and write it to `path`."""
    path.write_text(tables_text())
