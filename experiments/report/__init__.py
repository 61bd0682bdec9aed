# SPDX-License-Identifier: Apache-2.0
from experiments.report.record import ReportError
from experiments.report.write import write_report

__all__ = ["ReportError", "write_report"]
