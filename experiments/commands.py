# SPDX-License-Identifier: Apache-2.0
"""Command lines that messages and reports tell a user to run."""

import shlex
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from experiments.options import RunOptions

NOT_RECORDED = ("resume", "out", "cache", "json", "stream", "workers")  # they decide no result
NOT_FOR_A_SEARCH = ("wbits", "abits", "init", "unquantised")


def command(kind: type[RunOptions], stage: str, out: Path, options: Mapping[str, Any]) -> str:
    """Return the command line of a stage with those `options` that are not the defaults.

    Options that decide no result, None and what no search takes are left out.
    """
    words = [f"python -m experiments.{kind.program}", stage, f"--out {shlex.quote(str(out))}"]
    left_out = NOT_RECORDED + (NOT_FOR_A_SEARCH if stage == "search" else ())
    for field in fields(kind):
        value = options.get(field.name)
        # With --init another preset is the default.
        default = None if field.name == "preset" and options.get("init") else field.default
        if field.name in left_out or value is None or value == default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        switch = isinstance(field.default, bool)  # whose default is False; others take a value
        words.append(flag if switch else f"{flag} {shlex.quote(str(value))}")
    return " ".join(words)
