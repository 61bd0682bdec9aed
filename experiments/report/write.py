# SPDX-License-Identifier: Apache-2.0
"""Write OUT/report.json and OUT/report.html, each whole or not at all."""

import os
from pathlib import Path

from experiments.report.document import report_document
from experiments.report.page import render
from experiments.report.record import ReportError, read_run
from experiments.run_folder import write_json


def write_report(out: Path, program: str | None = None) -> Path:
    """Report the run (of `program`, if given) in folder `out`; return the path of the page.

    Stages that have not run are named in the report. Raises what `read_run` does, and ReportError
    for a folder that cannot be written.
    """
    record = read_run(out, program)
    page = render(record)
    target = out / "report.html"
    temporary = out / ".report.html.tmp"
    try:
        write_json(out / "report.json", report_document(record))
        temporary.write_text(page, encoding="utf-8")
        os.replace(temporary, target)
    except OSError as error:
        raise ReportError(f"--out {out}: cannot write there ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target
