# SPDX-License-Identifier: Apache-2.0
"""Cycle-level simulation of a pipeline of processes and FIFOs."""

from hw.sim.demand import DeadlockError
from hw.sim.report import FifoReport, ProcessReport, SimReport, simulate

__all__ = ["DeadlockError", "FifoReport", "ProcessReport", "SimReport", "simulate"]
