# SPDX-License-Identifier: Apache-2.0
"""Integer networks, DSP packing, accelerator model, simulator and HLS generator (numpy only)."""

from hw.execute import execute
from hw.ir import Graph, IRError
from hw.ir_io import load, save
from hw.ir_verify import verify

__all__ = ["Graph", "IRError", "execute", "load", "save", "verify"]
