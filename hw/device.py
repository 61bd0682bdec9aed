# SPDX-License-Identifier: Apache-2.0
"""DSP primitives and FPGA parts, each figure with its source."""

from dataclasses import dataclass


class DeviceError(ValueError):
    """Unknown device or DSP name; the message lists what is known."""


@dataclass(frozen=True)
class Dsp:
    """One hard multiplier: signed ports of `wide_bits` and `narrow_bits`, accumulator `p_bits`.

    `w_mux`: the ALU has a fourth operand (W multiplexer, RND constant) beside product and P/PCIN.
    `multipliers` of a block run side by side; P adds the products of `summed` of them in a cycle,
    so that a sum of fewer cannot be read. Without `accumulates` P holds one product. `pre_adder`:
    the wide port carries the sum of two inputs, modulo 2^wide_bits.
    """

    name: str
    wide_bits: int
    narrow_bits: int
    p_bits: int
    w_mux: bool
    source: str
    multipliers: int = 1
    summed: int = 1
    accumulates: bool = True
    pre_adder: bool = False


@dataclass(frozen=True)
class Device:
    """Budgets of one part. `bram18` counts 18 Kbit halves; `uram` 288 Kbit blocks."""

    name: str
    part: str
    dsp_type: str
    dsp: int
    lut: int
    ff: int
    bram18: int
    uram: int
    source: str


_AM004 = "AMD AM004, Versal DSP Engine"
_S10_DSP = "Intel UG-S10-DSP, Stratix 10 Variable Precision DSP Blocks"
_INT64_BITS = 62  # of the 64 bits of the accumulator: the emulator computes in int64

DSPS = {
    dsp.name: dsp
    for dsp in (
        Dsp("dsp48e1", 25, 18, 48, False, "AMD UG479, 7 Series DSP48E1 Slice", pre_adder=True),
        Dsp("dsp48e2", 27, 18, 48, True, "AMD UG579, UltraScale DSP Slice", pre_adder=True),
        Dsp("dsp58", 27, 24, 58, True, _AM004, pre_adder=True),
        Dsp("dsp58-int8", 9, 8, 58, True, f"{_AM004}, INT8 dot product mode", 3, 3),
        Dsp("intel-18x19", 19, 18, 37, False, f"{_S10_DSP}, independent", 2, accumulates=False),
        Dsp("intel-18x19-sum", 19, 18, _INT64_BITS, False, f"{_S10_DSP}, sum of two", 2, 2),
        Dsp("intel-27x27", 27, 27, _INT64_BITS, False, _S10_DSP),
        Dsp("ice40-mac16", 16, 16, 32, False, "Lattice FPGA-TN-02007, SB_MAC16"),
    )
}

_DS190 = "AMD DS190, Zynq-7000 product table"
_DS891 = "AMD DS891, Zynq UltraScale+ product table"
DEVICES = {
    device.name: device
    for device in (
        Device("xc7z020", "xc7z020clg400-1", "dsp48e1", 220, 53200, 106400, 280, 0, _DS190),
        Device("xc7z045", "xc7z045ffg900-2", "dsp48e1", 900, 218600, 437200, 1090, 0, _DS190),
        Device("xczu3eg", "xczu3eg-sbva484-1-e", "dsp48e2", 360, 70560, 141120, 432, 0, _DS891),
        Device("xczu7ev", "xczu7ev-ffvc1156-2-e", "dsp48e2", 1728, 230400, 460800, 624, 96, _DS891),
        Device("xczu9eg", "xczu9eg-ffvb1156-2-e", "dsp48e2", 2520, 274080, 548160, 1824, 0, _DS891),
        Device(
            "xck26",
            "xck26-sfvc784-2LV-c",
            "dsp48e2",
            1248,
            117120,
            234240,
            288,
            64,
            "AMD DS987, Kria K26 SOM",
        ),
    )
}


def dsp(name: str) -> Dsp:
    """Return the DSP primitive called `name`; raise DeviceError with the known names."""
    if name not in DSPS:
        raise DeviceError(f"unknown DSP '{name}'; known: {', '.join(sorted(DSPS))}")
    return DSPS[name]


def device(name: str) -> Device:
    """Return the part called `name`; raise DeviceError with the known names."""
    if name not in DEVICES:
        raise DeviceError(f"unknown device '{name}'; known: {', '.join(sorted(DEVICES))}")
    return DEVICES[name]
