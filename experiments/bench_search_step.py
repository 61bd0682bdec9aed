# SPDX-License-Identifier: Apache-2.0
"""Search steps of the product and of an eager PyTorch supernet, timed in turns."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.bench_worker import Burst, Worker, WorkerError, request, worker

PRODUCT, BASELINE = "mixq_jax", "torch"
# Allowed relative difference of the two sides' losses at steps 1, 2, 3. Two correct float32
# programs differ by 1e-4, 1e-3, 2e-3 (sums in another order move values across quantiser steps);
# a narrow weight range differs by 1e-2 at step 1, a missing momentum by 6e-2 at step 2.
LOSS_TOLERANCE = (1e-3, 5e-3, 1e-2)
BUSY_CPUS = 0.1  # work of other processes, in CPUs, above which a timing is not to be trusted
SETTLE_SECONDS = 0.3  # thread pools of the side that just ran stop spinning within this time


@dataclass(frozen=True)
class Summary:
    """Statistics of step times, all in seconds but the count `n`; `std` divides by n - 1."""

    n: int
    median: float
    mean: float
    std: float
    min: float
    max: float


@dataclass(frozen=True)
class Turn:
    """One side's turn: step times, and the state of the machine around it.

    load_average: 1 minute, just before the turn (the turns before it count too).
    other_cpus: mean CPUs that other processes or the hypervisor took of this side's during it.
    """

    side: str
    seconds: list[float]
    load_average: float
    other_cpus: float


def summarize(seconds: Sequence[float]) -> Summary:
    """Summarise at least two step times."""
    return Summary(
        n=len(seconds),
        median=statistics.median(seconds),
        mean=statistics.fmean(seconds),
        std=statistics.stdev(seconds),
        min=min(seconds),
        max=max(seconds),
    )


def times_of(turns: Sequence[Turn], side: str) -> list[float]:
    """Return all step times of one side."""
    return [seconds for turn in turns if turn.side == side for seconds in turn.seconds]


def median_ratio(turns: Sequence[Turn]) -> float:
    """Return median baseline time / median product time: above 1 the product is faster."""
    baseline, product = (statistics.median(times_of(turns, s)) for s in (BASELINE, PRODUCT))
    return baseline / product


def round_ratios(turns: Sequence[Turn]) -> list[float]:
    """Return the ratio of medians of each round (one turn of the product, one of the baseline)."""
    return [median_ratio(turns[i : i + 2]) for i in range(0, len(turns), 2)]


def warnings_of(turns: Sequence[Turn]) -> list[str]:
    """Name the turns during which the machine was not idle."""
    return [
        f"round {index // 2 + 1}, {turn.side}: other work took {turn.other_cpus:.2f} CPUs "
        f"(allowed {BUSY_CPUS}); repeat on an idle machine"
        for index, turn in enumerate(turns)
        if turn.other_cpus > BUSY_CPUS
    ]


def check_same_mathematics(product: Sequence[float], baseline: Sequence[float]) -> None:
    """Compare the losses of the first steps; raises WorkerError when the sides differ.

    Step 1 shows the forward pass, later steps the gradients of the weights and their optimiser;
    gradients of the alphas are too small to show here.
    """
    triples = zip(product, baseline, LOSS_TOLERANCE, strict=True)
    for step, (ours, theirs, tolerance) in enumerate(triples, start=1):
        if not abs(ours - theirs) <= tolerance * abs(theirs):
            raise WorkerError(
                f"loss of step {step}: {PRODUCT} {ours:.6f}, {BASELINE} {theirs:.6f}; they may "
                f"differ by {tolerance:g} of it. The sides compute different things: no ratio"
            )


def busy_seconds(stat: str, cpus: Sequence[int], ticks_per_second: int) -> float:
    """Sum the time that `cpus` were not idle since boot, from the text of /proc/stat (proc(5))."""
    busy = 0
    for line in stat.splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            busy += user + nice + system + irq + softirq + steal
    return busy / ticks_per_second


def take_turn(side: Worker, steps: int) -> Turn:
    """Let one worker time `steps` steps while the other sleeps."""
    time.sleep(SETTLE_SECONDS)
    load_average = os.getloadavg()[0]
    busy_start, start = _busy_now(side), time.perf_counter()
    burst: Burst = request(side, steps)
    wall, busy = time.perf_counter() - start, _busy_now(side) - busy_start
    other_cpus = max(0.0, busy - burst.cpu_seconds) / wall
    return Turn(side.name, burst.seconds, load_average, other_cpus)


def _busy_now(side: Worker) -> float:
    stat = Path("/proc/stat").read_text()
    return busy_seconds(stat, side.ready.cpus, os.sysconf("SC_CLK_TCK"))


def interleave(
    sides: Sequence[Worker], rounds: int, steps: int, progress: Callable[[str], None]
) -> list[Turn]:
    """Let the sides take turns, `rounds` times each, and report every turn."""
    turns = []
    for index in range(rounds):
        for side in sides:
            turn = take_turn(side, steps)
            turns.append(turn)
            progress(
                f"round {index + 1}/{rounds} {turn.side:<9}"
                f" median {statistics.median(turn.seconds):.4f} s"
                f"  load {turn.load_average:.2f}  others {turn.other_cpus:.2f} CPUs"
            )
    return turns


def record_of(sides: Sequence[Worker], turns: Sequence[Turn]) -> dict:
    """Return what was found as JSON values."""
    ratios = round_ratios(turns)
    return {
        "problem": "UltraNet supernet, batch 8, 160x320, float32",
        "sides": {
            side.name: {
                **asdict(summarize(times_of(turns, side.name))),
                **asdict(side.ready),
            }
            for side in sides
        },
        "ratio_of_medians": median_ratio(turns),
        "round_ratio_min": min(ratios),
        "round_ratio_max": max(ratios),
        "warnings": warnings_of(turns),
        "turns": [asdict(turn) for turn in turns],
    }


def table(record: dict) -> str:
    """Render a record as text."""
    columns = ("median", "mean", "std", "min", "max")
    lines = [f"{record['problem']}; {record['cpu']}, commit {record['commit']}"]
    lines.append(f"{'seconds':<10}{'n':>5}" + "".join(f"{name:>9}" for name in columns))
    for name, side in record["sides"].items():
        figures = "".join(f"{side[column]:>9.4f}" for column in columns)
        versions = ", ".join(f"{package} {v}" for package, v in side["versions"].items())
        lines.append(f"{name:<10}{side['n']:>5}{figures}  {side['threads']} threads, {versions}")
    lines.append(
        f"{BASELINE} / {PRODUCT}, ratio of medians: {record['ratio_of_medians']:.3f}"
        f" (rounds {record['round_ratio_min']:.3f} to {record['round_ratio_max']:.3f})"
    )
    return "\n".join(lines + [f"warning: {text}" for text in record["warnings"]])


def measure(torch_python: str, rounds: int, steps: int, threads: int) -> dict:
    """Run the benchmark; raises WorkerError when a side cannot be timed."""
    commands = {
        PRODUCT: [sys.executable, "-m", "experiments.bench_jax"],
        BASELINE: [torch_python, "-m", "experiments.bench_torch"],
    }
    with ExitStack() as stack:
        sides = [
            stack.enter_context(worker(name, [*command, "--serve", "--threads", str(threads)]))
            for name, command in commands.items()
        ]
        check_same_mathematics(*(side.ready.losses for side in sides))
        turns = interleave(sides, rounds, steps, _to_stderr)
        return record_of(sides, turns)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
