# SPDX-License-Identifier: Apache-2.0
"""PackTable: the stored plans of one DSP and kernel side, and the choice among them for a layer.

`tables.json` keeps the geometries that `search` found; `write_tables` regenerates it. Plans are
expanded on demand and their rule is checked again, so a damaged file cannot yield a wrong plan.
"""

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

from hw.device import DSPS, dsp
from hw.packing.geometry import Cut, Geometry, Placement, Shape, build_plan
from hw.packing.plan import PackError, PackPlan
from hw.packing.prove import certify
from hw.packing.search import KERNELS, WIDEST_BITS, check_cell, search

VERSION = 1
PATH = Path(__file__).with_name("tables.json")
SEARCHED_BITS = range(2, WIDEST_BITS + 1)  # the bit widths that a network search chooses from


@dataclass(frozen=True)
class PackTable:
    """Plans of every (w_bits, a_bits) cell for one DSP, kernel side and weight range."""

    dsp: str
    kernel: int
    narrow: bool = True

    def plans(self, w_bits: int, a_bits: int) -> tuple[PackPlan, ...]:
        """Return the cell's plans, highest `macs_per_dsp` first, each with an interval proof.

        Raises PackError for widths outside 1..8 (2..8 for narrow weights).
        """
        return _plans(self.dsp, self.kernel, self.narrow, w_bits, a_bits)

    def best(
        self, w_bits: int, a_bits: int, out_channels: int | None = None, depthwise: bool = False
    ) -> PackPlan:
        """Return the fastest plan that a layer can use.

        A dense layer needs `groups` to divide `out_channels` (None: any), a depthwise layer one
        group, because its output channels do not share an activation. Raises PackError for
        `out_channels` < 1 and as `plans` does.
        """
        if out_channels is not None and out_channels < 1:
            raise PackError(f"out_channels {out_channels} must be at least 1")
        return next(
            plan
            for plan in self.plans(w_bits, a_bits)
            if plan.groups == 1 or not (depthwise or (out_channels or 0) % plan.groups)
        )

    def macs_per_dsp_grid(self) -> tuple[tuple[Fraction, ...], ...]:
        """Return the best rates [w_bits - 2][a_bits - 2] for widths 2..8."""
        return tuple(
            tuple(self.best(w_bits, a_bits).macs_per_dsp for a_bits in SEARCHED_BITS)
            for w_bits in SEARCHED_BITS
        )


def table(dsp_name: str, kernel: int, narrow: bool = True) -> PackTable:
    """Return the table of a DSP and kernel side; raise PackError naming what is known."""
    if dsp_name not in DSPS:
        raise PackError(f"no packing table for DSP '{dsp_name}'; known: {', '.join(sorted(DSPS))}")
    check_cell(kernel, WIDEST_BITS, WIDEST_BITS, narrow)
    return PackTable(dsp_name, kernel, narrow)


@cache
def _plans(
    dsp_name: str, kernel: int, narrow: bool, w_bits: int, a_bits: int
) -> tuple[PackPlan, ...]:
    return tuple(
        certify(build_plan(dsp(dsp_name), kernel, w_bits, a_bits, narrow, geometry))
        for geometry in stored_geometries(dsp_name, kernel, w_bits, a_bits, narrow)
    )


def stored_geometries(
    dsp_name: str, kernel: int, w_bits: int, a_bits: int, narrow: bool = True
) -> tuple[Geometry, ...]:
    """Return what tables.json holds for a cell; raise PackError for a cell outside the tables."""
    check_cell(kernel, w_bits, a_bits, narrow)
    rows = read_tables(PATH)[dsp_name][_key(kernel, narrow)][f"w{w_bits}a{a_bits}"]
    return tuple(_decode(row) for row in rows)


@cache
def read_tables(path: Path) -> dict:
    """Return the rows of a tables file by DSP, table and cell; raise PackError for its version."""
    content = json.loads(path.read_text())
    if content["version"] != VERSION:
        raise PackError(
            f"{path.name} has version {content['version']}, this code reads {VERSION}; "
            "regenerate it with hw.packing.table.write_tables"
        )
    return content["dsps"]


def _key(kernel: int, narrow: bool) -> str:
    return f"k{kernel} {'narrow' if narrow else 'full'}"


def _encode(geometry: Geometry) -> list:
    shape, cut = geometry.shape, geometry.cut
    lanes = [shape.groups, shape.taps, shape.columns, shape.weights_dense]
    placements = [[p.w_port, p.w_stride, p.a_stride] for p in geometry.placements]
    return [lanes, [cut.split, cut.low], [geometry.chain, geometry.known_bits], placements]


def _decode(row: list) -> Geometry:
    lanes, cut, (chain, known_bits), placements = row
    return Geometry(
        Shape(*lanes), Cut(*cut), chain, known_bits, tuple(Placement(*p) for p in placements)
    )


def tables_text() -> str:
    """Search every table anew and return the text of tables.json, one cell a line."""
    dsps = ",\n".join(f"{json.dumps(name)}: {{\n{_dsp_text(name)}}}" for name in sorted(DSPS))
    return f'{{"version": {VERSION}, "dsps": {{\n{dsps}}}}}\n'


def _dsp_text(dsp_name: str) -> str:
    return ",\n".join(
        f"{json.dumps(_key(kernel, narrow))}: {{\n{_cells_text(dsp_name, kernel, narrow)}}}"
        for kernel in KERNELS
        for narrow in (True, False)
    )


def _cells_text(dsp_name: str, kernel: int, narrow: bool) -> str:
    lines = []
    for w_bits in range(2 if narrow else 1, WIDEST_BITS + 1):
        for a_bits in range(1, WIDEST_BITS + 1):
            rows = [_encode(found) for found in search(dsp_name, kernel, w_bits, a_bits, narrow)]
            lines.append(f'"w{w_bits}a{a_bits}": {json.dumps(rows, separators=(",", ":"))}')
    return ",\n".join(lines)


def write_tables(path: Path = PATH) -> None:
    """Search every table anew (about 15 s) and write it to `path`."""
    path.write_text(tables_text())
