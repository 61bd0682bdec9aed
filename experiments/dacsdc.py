# SPDX-License-Identifier: Apache-2.0
"""Search, train, integerise, generate and simulate a detector for the DAC System Design Contest.

`python -m experiments.dacsdc` runs everything on a generated data set and ends with a report.
"""

import contextlib
import io
import json
import os
import re
import sys
import time
from dataclasses import dataclass

from experiments.interrupt import held_back, listen
from experiments.options import OptionError, Options

STAGES = ("search", "train", "test", "export", "simulate")
OURS = ("hw", "mixq_jax", "experiments")
INTERRUPTED = 130  # the shell's code for Ctrl-C


@dataclass(frozen=True)
class Search(Options):
    """Search the bit-width of every layer's weights and activations."""


@dataclass(frozen=True)
class Train(Options):
    """Train the network at the chosen widths."""


@dataclass(frozen=True)
class Test(Options):
    """Evaluate the float, the quantised and the integer network; with --init that of a file.

    A file's network is run on all frames of --data, in C simulation too, and no run folder is
    written.
    """

    json: bool = False
    """Print the results as one JSON object."""


@dataclass(frozen=True)
class Export(Options):
    """Write the integer graph and the HLS C++ project."""


@dataclass(frozen=True)
class Simulate(Options):
    """Compile and run the C++ against the integer network; count cycles."""


@dataclass(frozen=True)
class Report(Options):
    """Write report.json and report.html."""


@dataclass(frozen=True)
class All(Options):
    """Run every stage (the default)."""


COMMANDS = {
    "all": All,
    "search": Search,
    "train": Train,
    "test": Test,
    "export": Export,
    "simulate": Simulate,
    "report": Report,
}


def parse(arguments: list[str]) -> Options:
    """Return the options of a command line; SystemExit(0) after --help, OptionError otherwise."""
    import tyro

    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["all", *arguments]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS, args=arguments, prog="dacsdc", description=__doc__
            )
    except SystemExit as end:
        if end.code == 0:
            raise
        raise OptionError(_one_line(told.getvalue())) from end


def _one_line(message: str) -> str:
    """Return a boxed message of the parser as one line, without title and help text."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    # Where standard output is not UTF-8 the parser rules lines instead of drawing boxes.
    drawn = "╭" in plain
    lines = [line.strip("│ ") for line in plain.splitlines() if not line.startswith(("╭", "╰"))]
    sections = re.split(r"\n[─-]{3,}\n", "\n".join(filter(None, lines)))
    parts = []
    for section in sections if drawn else sections[1:]:
        if section.startswith("Perhaps you meant"):
            section = "\n".join(section.splitlines()[:2])
        if not section.startswith(("Argument helptext", "For full helptext")):
            parts.append(" ".join(section.split()))
    return f"{'; '.join(parts)} (see --help)"


def run_stages(options: Options, stages: tuple[str, ...]) -> None:
    """Run `stages` in order; with --resume, finished ones are kept."""
    with held_back():  # native modules do not survive being cut in the middle of their loading
        from experiments import hardware, learning, run_folder
        from experiments import stages as plan
        from experiments.run_context import Run, keep_compiled_programs

    functions = {
        "search": learning.run_search,
        "train": learning.run_train,
        "test": learning.run_test,
        "export": hardware.run_export,
        "simulate": hardware.run_simulate,
    }
    run = Run(options, options.resolved())
    run.check(simulates="simulate" in stages)
    run_folder.prepare(options.out, "out")
    run_folder.claim(options.out, plan.FOLDERS, options.data)
    run_folder.prepare(options.cache, "cache")
    keep_compiled_programs(options.cache)
    for stage in stages:
        if options.resume and plan.finished(run, stage):
            continue
        plan.check_predecessor(run, stage)
        with plan.replacing(run, stage, keep_own=options.resume):
            run.write_card()
            started = time.monotonic()
            result = functions[stage](run)
            result |= {"options": run.recorded_options(), "seconds": time.monotonic() - started}
            run_folder.write_json(run.out / stage / "result.json", result)


def stages_of(options: Options) -> tuple[str, ...]:
    """Return the stages that a command runs; given widths need no search."""
    if not isinstance(options, All):
        return tuple(s for s in STAGES if isinstance(options, COMMANDS[s]))
    return STAGES if options.needs_search else STAGES[1:]


def main(arguments: list[str]) -> int:
    """Run a command line; return the exit code (0, 2 for a user's error, 130 for Ctrl-C)."""
    listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names go into any encoding
    try:
        options = parse(arguments)
        if isinstance(options, Test) and options.init is not None:
            _print_result(_test_file(options), options.json)
            return 0
        run_stages(options, stages_of(options))
        if isinstance(options, Test) and options.json:
            _print_result(_recorded_test(options), as_json=True)
        if isinstance(options, All | Report):
            from experiments.report import write_report

            print(f"report: {write_report(options.out)}")
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not _is_users(error):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _test_file(options: Test) -> dict:
    with held_back():
        from experiments.pretrained import run_pretrained
        from experiments.run_context import keep_compiled_programs
    keep_compiled_programs(options.cache)
    return run_pretrained(options)


def _recorded_test(options: Test) -> dict:
    from experiments import run_folder

    found = run_folder.read_json(
        options.out / "test/result.json", "python -m experiments.dacsdc test"
    )
    return {name: found[name] for name in ("frames", "iou", "iou_error")}


def _print_result(result: dict, as_json: bool) -> None:
    """Print a result: one JSON object, or a line a number."""
    if as_json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        for key, number in value.items() if isinstance(value, dict) else [("", value)]:
            text = f"{number:.4f}" if isinstance(number, float) else number
            print(f"{name} {key}".ljust(24), text)


def _is_users(error: Exception) -> bool:
    """Whether the message is made for users: our own error classes, the disk, a diverged loss."""
    ours = type(error).__module__.split(".")[0] in OURS
    return ours or isinstance(error, OSError | FloatingPointError)


def end(code: int) -> None:
    """End the process; after Ctrl-C at once, as threads that still compile crash in a tear-down."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    end(main(sys.argv[1:]))
