# SPDX-License-Identifier: Apache-2.0
"""HLS C++: Design -> project of files, and its C simulation."""

from hw.hls.build_plan import BuildPlan, HlsError, first_difference, write
from hw.hls.emit import emit

__all__ = ["BuildPlan", "HlsError", "emit", "first_difference", "write"]
