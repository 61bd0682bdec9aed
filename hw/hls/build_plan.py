# SPDX-License-Identifier: Apache-2.0
"""BuildPlan: the files of one HLS project in memory, and how they reach the disk."""

import shutil
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from hw.pipeline import Pipeline


class HlsError(ValueError):
    """A design that the C++ templates do not cover; the message names the node and the limit."""


@dataclass(frozen=True)
class BuildPlan:
    """One project: `files` (relative path, bytes) sorted by path, the name of its top function.

    `pipeline` is what the files implement: shapes of the ports and layouts of the streams.
    """

    top: str
    pipeline: Pipeline
    files: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """SHA-256 over paths and contents, in hexadecimal."""
        digest = sha256()
        for path, content in self.files:
            digest.update(f"{len(path)} {path} {len(content)} ".encode() + content)
        return digest.hexdigest()


def write(plan: BuildPlan, directory: Path) -> None:
    """Write the project to `directory`, replacing an older one there.

    All files are written beside it first and then renamed, so that an interruption leaves no
    half-written project. Raises HlsError if `directory` holds anything that a project does not,
    and OSError where the disk refuses.
    """
    directory = Path(directory)
    _check_replaceable(directory, plan)
    directory.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for path, content in plan.files:
            target = scratch / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        scratch.chmod(0o755)  # mkdtemp keeps others out
        if directory.exists():
            shutil.rmtree(directory)
        scratch.rename(directory)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def first_difference(plan: BuildPlan, directory: Path) -> str | None:
    """Return the first file of `plan` that `directory` lacks or holds with other content."""

    def differs(path: str, content: bytes) -> bool:
        file = Path(directory, path)
        return not file.is_file() or file.read_bytes() != content

    return next((path for path, content in plan.files if differs(path, content)), None)


def _check_replaceable(directory: Path, plan: BuildPlan) -> None:
    """Refuse to delete what another program left in `directory`, synthesis results for example."""
    ours = {path.split("/")[0] for path, _ in plan.files}
    there = {entry.name for entry in directory.iterdir()} if directory.exists() else set()
    if there - ours:
        raise HlsError(
            f"'{directory}' holds '{min(there - ours)}', which no HLS project contains; "
            "move it away or name another folder"
        )
