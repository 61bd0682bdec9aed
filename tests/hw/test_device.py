# SPDX-License-Identifier: Apache-2.0
"""Figures of devices against the tables they are taken from, and errors for unknown names."""

import re

import pytest

from hw.device import DEVICES, DSPS, DeviceError, device, dsp

# (DSP slices, LUT, FF, 36 Kbit block RAMs, UltraRAMs) as the product tables print them.
PRODUCT_TABLES = {
    "xc7z020": (220, 53200, 106400, 140, 0),
    "xc7z045": (900, 218600, 437200, 545, 0),
    "xczu3eg": (360, 70560, 141120, 216, 0),
    "xczu7ev": (1728, 230400, 460800, 312, 96),
    "xczu9eg": (2520, 274080, 548160, 912, 0),
    "xck26": (1248, 117120, 234240, 144, 64),
}


@pytest.mark.parametrize("name", sorted(PRODUCT_TABLES))
def test_budgets_equal_the_product_table(name):
    found = device(name)
    budgets = (found.dsp, found.lut, found.ff, found.bram18 / 2, found.uram)
    assert budgets == PRODUCT_TABLES[name]
    assert found.part.startswith(name)
    assert found.source


def test_every_device_is_in_the_product_table_and_has_a_known_dsp():
    assert set(DEVICES) == set(PRODUCT_TABLES)
    for name, found in DEVICES.items():
        assert found.name == name
        assert dsp(found.dsp_type).name == ("dsp48e1" if name.startswith("xc7") else "dsp48e2")


# (wide port, narrow port, accumulator, fourth ALU operand, multipliers, products P adds at least).
DATA_SHEETS = {
    "dsp48e1": (25, 18, 48, False, 1, 1),
    "dsp48e2": (27, 18, 48, True, 1, 1),
    "dsp58": (27, 24, 58, True, 1, 1),
    "dsp58-int8": (9, 8, 58, True, 3, 3),
    "intel-18x19": (19, 18, 37, False, 2, 1),
    "intel-18x19-sum": (19, 18, 62, False, 2, 2),  # two of the 64 bits are not emulated
    "intel-27x27": (27, 27, 62, False, 1, 1),
    "ice40-mac16": (16, 16, 32, False, 1, 1),
}


@pytest.mark.parametrize("name", sorted(DATA_SHEETS))
def test_dsp_ports(name):
    found = dsp(name)
    ports = (found.wide_bits, found.narrow_bits, found.p_bits, found.w_mux)
    assert (*ports, found.multipliers, found.summed) == DATA_SHEETS[name]
    assert found.accumulates == (name != "intel-18x19")
    assert found.source


def test_the_data_sheets_cover_every_dsp():
    """Tests of small DSPs add theirs, so these do not count."""
    assert {name for name in DSPS if not name.startswith("toy")} == set(DATA_SHEETS)


@pytest.mark.parametrize(
    ("look_up", "kind", "known"), [(device, "device", DEVICES), (dsp, "DSP", DSPS)]
)
def test_unknown_names_are_refused(look_up, kind, known):
    message = f"unknown {kind} 'xc1'; known: {', '.join(sorted(known))}"
    with pytest.raises(DeviceError, match=f"^{re.escape(message)}$"):
        look_up("xc1")
