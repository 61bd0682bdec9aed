# SPDX-License-Identifier: Apache-2.0
"""Files of a run: JSON written whole or not at all, JSON lines that survive a kill."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class RunError(RuntimeError):
    """A run folder that cannot be used; the message names the file and what to do."""


def prepare(folder: Path, option: str) -> None:
    """Make the folder and check that it can be written; RunError if not."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RunError(f"--{option} {folder}: cannot write there ({error.strerror})") from error


def claim(folder: Path, names: Iterable[str], data: Path | None) -> None:
    """Check that subfolders `names` of an existing folder may be replaced; RunError if not.

    They must be those of a run (it has a run.json) and must not hold the data set.
    """
    taken = [name for name in names if (folder / name).exists()]
    if taken and not (folder / "run.json").is_file():
        raise RunError(
            f"--out {folder}: holds '{taken[0]}' but no run.json, so it is no run's folder; "
            "choose another one"
        )
    for name in names:
        if data is not None and data.resolve().is_relative_to((folder / name).resolve()):
            raise RunError(
                f"--out {folder}: its '{name}' would replace --data {data}; choose another"
            )


def write_json(path: Path, document: dict) -> None:
    """Write a document under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _parse(text: str) -> dict:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def read_json(path: Path, command: str) -> dict:
    """Read a document; RunError names the command that makes it."""
    try:
        return _parse(path.read_text())
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; run `{command}` first") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is unreadable ({error}); run `{command}` again") from error


def read_json_if_present(path: Path) -> dict | None:
    """Read a document, None if there is none (or a broken one, which a stage then rewrites)."""
    try:
        return _parse(path.read_text())
    except (OSError, ValueError):
        return None


def append_lines(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    """Append documents as JSON lines and flush them to the system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(document) + "\n" for document in documents)


def keep_lines_before(path: Path, step: int) -> None:
    """Drop lines of `step` and later (a resumed run writes them anew) and broken last lines."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().splitlines():
        try:
            if json.loads(line)["step"] < step:
                kept.append(line.decode())
        except (ValueError, KeyError, TypeError):
            break
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(line + "\n" for line in kept))
    os.replace(temporary, path)
