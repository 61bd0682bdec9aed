# SPDX-License-Identifier: Apache-2.0
"""The only place that looks for external tools: the C++ compiler and the ap_int headers."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_AP_TYPES = Path("templates", "vivado", "ap_types")
FLAGS = ("-std=c++14", "-O2", "-Wno-unknown-pragmas")


class ToolchainError(RuntimeError):
    """A tool is missing or refuses its input; the message names what to install or what it said."""


@dataclass(frozen=True)
class Toolchain:
    """`compiler`: path of g++; `ap_include`: folder that holds ap_int.h."""

    compiler: Path
    ap_include: Path


def find() -> Toolchain:
    """Return the installed tools; raise ToolchainError naming the missing one."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise ToolchainError("C simulation needs g++, which is not on PATH; install g++")
    return Toolchain(Path(compiler), _ap_include())


def _ap_include() -> Path:
    spec = find_spec("hls4ml")  # locates the package without running its slow imports
    for root in spec.submodule_search_locations or () if spec else ():
        folder = Path(root, _AP_TYPES)
        if Path(folder, "ap_int.h").is_file():
            return folder
    raise ToolchainError(
        "C simulation needs ap_int.h, which the wheel of hls4ml carries; run: pip install hls4ml"
    )


def compile_cpp(
    sources: Sequence[Path],
    output: Path,
    include: Sequence[Path],
    macros: Sequence[str] = (),
    flags: Sequence[str] = FLAGS,
) -> None:
    """Compile `sources` to the program `output`; raise ToolchainError with the first errors."""
    tools = find()
    command = [
        str(tools.compiler),
        *flags,
        *(f"-D{macro}" for macro in macros),
        *(f"-I{folder}" for folder in include),
        "-isystem",
        str(tools.ap_include),
        "-o",
        str(output),
        *map(str, sources),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise ToolchainError(f"g++ failed on {output.name}: " + "; ".join(errors[:3] or ["-"]))
