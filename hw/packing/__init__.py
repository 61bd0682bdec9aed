# SPDX-License-Identifier: Apache-2.0
"""DSP packing: plans, their search and proof, and the tables that everything else reads."""

from hw.packing.plan import PackError, PackPlan
from hw.packing.table import PackTable, table

__all__ = ["PackError", "PackPlan", "PackTable", "table"]
