# SPDX-License-Identifier: Apache-2.0
"""report.json: the results of a run in one document, for programs."""

from typing import Any

from experiments.report.record import STAGES, RunRecord

SCHEMA = 2


def report_document(record: RunRecord) -> dict[str, Any]:
    """Return the content of report.json; what a missing stage would give is None.

    `bits` {layer: [w, a]} are those the network was trained at, or else those the search found
    (`searched_bits`); `seconds` are per stage; the other keys are as the stages wrote them.
    """
    search, train, test, export, simulate = (record.result(stage) for stage in STAGES)
    return {
        "schema": SCHEMA,
        **{key: record.run[key] for key in ("program", "preset", "options", "recipe", "versions")},
        **{key: record.run[key] for key in ("network", "device", "data")},
        "missing": list(record.missing),
        "seconds": {stage: _part(record.result(stage), "seconds") for stage in STAGES},
        "bits": chosen_bits(record),
        "searched_bits": _part(search, "bits"),
        "cost": _part(search, "cost"),
        "reference_cost": _part(search, "reference_cost"),
        "warm_start": _part(train, "warm_start"),
        record.score_name: _part(test, "score"),
        f"{record.score_name}_error": _part(test, "score_error"),
        "test_frames": _part(test, "frames"),
        "differences": _part(test, "differences"),
        "export": export and {key: export[key] for key in ("files", "bytes", "digest")},
        **{key: _part(simulate, key) for key in ("csim", "cycles", "resources", "layers")},
    }


def chosen_bits(record: RunRecord) -> dict[str, list[int]] | None:
    """Return {layer: [w, a]} of the network that was trained, else of the search, else None."""
    for stage in ("train", "search"):
        if result := record.result(stage):
            return result["bits"]
    return None


def _part(result: Any, key: str) -> Any:
    return result and result[key]
