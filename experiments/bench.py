# SPDX-License-Identifier: Apache-2.0
"""Benchmarks whose figures are published; each record carries what is needed to repeat it.

    python -m experiments.bench search-step --torch-python PATH --out search-step.json

times the product's jitted search step against an eager PyTorch supernet of the same mathematics:
UltraNet, batch 8, 160x320, float32, 2 CPUs each. The two sides are processes that take turns, so
that a slow minute of the machine falls on both. Run it on an otherwise idle machine: under load
the PyTorch side collapses and the ratio counts for nothing. Linux only (reads /proc).

    python -m experiments.bench stream --out stream.json

times the decoding of 640x360 jpg files by worker processes, and how long search steps at batch 8
and 160x320 that are fed by them wait for data, beside the same steps on frames in memory.

    python -m experiments.bench networks --csim --out networks.json

tells what every full-size network takes at 4 bits by the model, and with --csim how long the C++ of
each at random widths takes to compile and to run for one frame, every integer compared.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from experiments.bench_worker import SOURCE_ROOT, WorkerError
from hw.design import DesignError
from hw.device import DEVICES
from hw.hls.csim import CsimError
from hw.hls.toolchain import ToolchainError
from mixq_jax.data.annotations import DataError
from mixq_jax.nets import CLASSIFIERS, NETS

RECORD_VERSION = 1
SHARED = ("command", "out")  # options of every command
NETWORKS = (*NETS, *CLASSIFIERS)
# Each has measure(one argument an option) -> JSON values, and table(record) -> text. Imported when
# asked for: the search-step benchmark's parent has neither JAX nor PyTorch in its memory.
MODULES = {
    "search-step": "experiments.bench_search_step",
    "stream": "experiments.bench_stream",
    "networks": "experiments.bench_networks",
}


def machine() -> dict:
    """Return what a record says of the machine and of the source."""
    return {
        "commit": source_commit(),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def cpu_model(cpuinfo: str) -> str:
    """Return the model name in the text of /proc/cpuinfo, or the architecture where it has none."""
    names = [line.partition(":")[2] for line in cpuinfo.splitlines() if "model name" in line]
    return names[0].strip() if names else platform.machine()


def source_commit() -> str:
    """Return the commit of the source, marked -dirty when it has changes, or "not a checkout"."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, cwd=SOURCE_ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "not a checkout"


def write_record(record: dict, path: Path) -> None:
    """Write the record under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(path)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exits with code 2 and one line when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    step, fed = commands.add_parser("search-step"), commands.add_parser("stream")
    step.add_argument(
        "--torch-python", default=sys.executable, help='Python with the "bench" extra (torch)'
    )
    step.add_argument("--rounds", type=int, default=7, help="turns of each side")
    step.add_argument("--steps", type=int, default=10, help="timed steps in a turn")
    step.add_argument("--threads", type=int, default=2, help="CPUs that each side may use")
    fed.add_argument("--data", type=Path, help="frames to read (default: generated ones)")
    fed.add_argument("--frames", type=int, default=400, help="how many to generate or read")
    fed.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="decoding processes")
    fed.add_argument("--repeats", type=int, default=10, help="timings of the source alone")
    fed.add_argument("--chunks", type=int, default=10, help="timed chunks of five search steps")
    nets = commands.add_parser("networks")
    nets.add_argument("--nets", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NET")
    nets.add_argument("--device", choices=sorted(DEVICES), default="xczu3eg", help="of the model")
    nets.add_argument("--clock-mhz", type=float, default=250.0, help="of the model")
    nets.add_argument(
        "--csim",
        action="store_true",
        help="also compile and run their C++ at random widths, for the smallest device that fits",
    )
    nets.add_argument("--seed", type=int, default=1, help="of widths, weights and frame")
    for command in (step, fed, nets):
        command.add_argument("--out", type=Path, help="write the JSON record here")
    options = parser.parse_args(arguments)
    if options.out and not options.out.parent.is_dir():
        parser.error(f"--out {options.out}: folder {options.out.parent} does not exist")
    if options.out and options.out.is_dir():
        parser.error(f"--out {options.out}: is a folder; name a file")
    CHECKS[options.command](parser, options)
    return options


def _check_search_step(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.rounds < 1 or options.steps < 2:
        parser.error(
            f"--rounds {options.rounds} --steps {options.steps}: at least 1 round of 2 steps"
        )
    interpreter = shutil.which(options.torch_python)
    if interpreter is None:
        parser.error(f"--torch-python {options.torch_python}: no such program")
    options.torch_python = os.path.abspath(interpreter)  # workers start in another folder


def _check_stream(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    for name in ("frames", "repeats", "chunks"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: at least 1")
    if min(options.workers) < 1:
        parser.error(f"--workers {min(options.workers)}: at least 1")


def _check_networks(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not 1 <= options.clock_mhz <= 2000:
        parser.error(f"--clock-mhz {options.clock_mhz}: must be in 1..2000")
    if not 0 <= options.seed < 1 << 32:
        parser.error(f"--seed {options.seed}: must be in 0..{(1 << 32) - 1}")


CHECKS = {"search-step": _check_search_step, "stream": _check_stream, "networks": _check_networks}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark, print its table, write its record; returns the exit code."""
    options = parse(arguments)
    module = import_module(MODULES[options.command])
    given = {name: value for name, value in vars(options).items() if name not in SHARED}
    try:
        record = {"version": RECORD_VERSION, "benchmark": options.command, **machine()}
        record |= module.measure(**given)
    except (WorkerError, DataError, DesignError, ToolchainError, CsimError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(module.table(record))
    if options.out:
        write_record(record, options.out)
    else:
        print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
