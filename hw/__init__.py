# SPDX-License-Identifier: Apache-2.0
"""Integer networks, DSP packing, accelerator model, simulator and HLS generator (numpy only)."""
