# SPDX-License-Identifier: Apache-2.0
"""The command line that all programs share: commands, stages, one-line errors, exit codes."""

import contextlib
import io
import json
import os
import re
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from experiments.interrupt import held_back, listen
from experiments.options import OptionError, RunOptions, given_beside

STAGES = ("search", "train", "test", "export", "simulate")
COMMANDS = {
    "all": "Run every stage (the default).",
    "search": "Search the bit-width of every layer's weights and activations.",
    "train": "Train the network at the chosen widths.",
    "test": "Evaluate the float, the quantised and the integer network; with --init a file's.",
    "export": "Write the integer graph and the HLS C++ project.",
    "simulate": "Compile and run the C++ against the integer network; count cycles.",
    "report": "Write report.json and report.html.",
}
OURS = ("hw", "mixq_jax", "experiments")
INTERRUPTED = 130  # the shell's code for Ctrl-C


@dataclass(frozen=True)
class Program:
    """A program: what --help says of it and the options that its commands take."""

    description: str
    options: type[RunOptions]

    @property
    def name(self) -> str:
        return self.options.program

    @cached_property
    def commands(self) -> dict[str, type[RunOptions]]:
        """A class of options for every command, so that one tells which was given."""
        return {
            command: dataclass(frozen=True)(
                type(command.capitalize(), (self.options,), {"__doc__": text})
            )
            for command, text in COMMANDS.items()
        }

    def command_of(self, options: RunOptions) -> str:
        """Return the command that `options` were given to."""
        return next(name for name, kind in self.commands.items() if isinstance(options, kind))


def parse(program: Program, arguments: list[str]) -> RunOptions:
    """Return the options of a command line; SystemExit(0) after --help, OptionError otherwise."""
    import tyro

    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["all", *arguments]
    _check_words(arguments)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            options = tyro.extras.subcommand_cli_from_dict(
                program.commands, args=arguments, prog=program.name, description=program.description
            )
    except SystemExit as end:
        if end.code == 0:
            raise
        raise OptionError(_one_line(told.getvalue())) from end
    return options.completed(os.environ).as_given(_named(arguments))


def _named(arguments: list[str]) -> set[str]:
    """Return the options that the words of a command line name."""
    flags = [word[2:].partition("=")[0] for word in arguments if word.startswith("--")]
    return {flag.removeprefix("no-").replace("-", "_") for flag in flags}


def _check_words(arguments: list[str]) -> None:
    """Raise OptionError for words that mean something else, or nothing, once they are parsed."""
    for before, word in pairwise(["", *arguments]):
        if not word or (word.startswith("--") and word.endswith("=")):
            raise OptionError(f"{word or before} '': is empty; give a value or leave it out")
        if "\0" in word:
            raise OptionError(f"{before} {word!r}: holds a NUL character; leave that out".strip())


# How the parser says that a value of an option with a default of its own has the wrong type.
_NO_SUCH_TYPE = (
    r"no type matching (?:\{None\}\|)?(\S+) could be instantiated from \[(.*?)\]\. Got errors: .*",
    r"\2 is no \1",
)


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
            parts.append(re.sub(*_NO_SUCH_TYPE, " ".join(section.split())))
    return f"{'; '.join(parts)} (see --help)"


def run_stages(options: RunOptions, stages: tuple[str, ...]) -> None:
    """Run `stages` in order; with --resume, finished ones are kept."""
    with held_back():  # native modules do not survive being cut in the middle of their loading
        from experiments import evaluation, hardware, learning, run_folder
        from experiments import stages as plan
        from experiments.run_context import Run, keep_compiled_programs

    functions = {
        "search": learning.run_search,
        "train": learning.run_train,
        "test": evaluation.run_test,
        "export": hardware.run_export,
        "simulate": hardware.run_simulate,
    }
    run = Run(options, options.resolved())
    run.check(simulates="simulate" in stages)
    run_folder.prepare(options.out, "out")
    run_folder.claim(options.out, plan.FOLDERS, options.data)
    run_folder.prepare(options.cache, "cache")
    keep_compiled_programs(options.cache)
    hardware.check_fits(run, stages)
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


def stages_of(command: str, options: RunOptions) -> tuple[str, ...]:
    """Return the stages that a command runs; given widths need no search."""
    if command == "search" and options.wbits is not None:
        raise OptionError(
            f"search --wbits {options.wbits}: the widths are given, so that there is nothing to "
            "search; leave them out, or give them to `train`"
        )
    if command == "search" and options.init is not None:
        raise OptionError(
            "search --init: a search begins with weights of its own; leave it out, or give the "
            "file to `train`"
        )
    if options.unquantised:
        if command not in ("train", "test", "all"):
            raise OptionError(
                f"{command} --unquantised: a float network has no widths and no hardware; "
                "use `train`, `test` or `all` for both"
            )
        return ("train", "test") if command == "all" else (command,)
    if command == "all":
        return STAGES if options.needs_search else STAGES[1:]
    return tuple(stage for stage in STAGES if stage == command)


def main(program: Program, arguments: list[str]) -> int:
    """Run a command line; return the exit code (0, 2 for a user's error, 130 for Ctrl-C)."""
    listen()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names go into any encoding
    try:
        options = parse(program, arguments)
        run(program.command_of(options), options)
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if not _is_users(error):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def run(command: str, options: RunOptions) -> None:
    """Run a command and print where its results are, or with --json what its test found."""
    if command == "test" and options.init is not None and "out" not in options.given:
        print_result(_test_file(options), options.json)
        return
    if command == "report":
        check_report(options)
        print(_report(options))
        return
    if options.json and command not in ("test", "all"):
        raise OptionError(f"{command} --json: prints nothing; only `test`, `all` and `report` do")
    stages = stages_of(command, options)
    run_stages(options, stages)
    if command == "all" and not options.unquantised:
        report = _report(options)
        if not options.json:
            print(report)
    if "test" in stages and (options.json or options.unquantised):
        print_result(_recorded_test(options), options.json)


def check_report(options: RunOptions) -> None:
    """Raise OptionError for options that `report` has no use for: it shows what a run has left."""
    for name, value in given_beside(options, ("out", "json")):
        raise OptionError(
            f"report: --{name} {value} has no effect on what a run has left; leave it out"
        )


def _report(options: RunOptions) -> str:
    """Write the report of the run in --out; return what to print of it."""
    from experiments.report import write_report

    page = write_report(options.out, options.program)
    return page.with_suffix(".json").read_text().rstrip() if options.json else f"report: {page}"


def _test_file(options: RunOptions) -> dict:
    with held_back():
        from experiments import run_folder
        from experiments.pretrained import run_pretrained
        from experiments.run_context import keep_compiled_programs
    run_folder.prepare(options.cache, "cache")
    keep_compiled_programs(options.cache)
    return run_pretrained(options)


def _recorded_test(options: RunOptions) -> dict:
    from experiments import run_folder

    command = f"python -m experiments.{options.program} test"
    found = run_folder.read_json(options.out / "test/result.json", command)
    name = found["score_name"]
    note = {"note": found["note"]} if found.get("note") else {}
    return {
        "frames": found["frames"],
        **note,
        name: found["score"],
        f"{name}_error": found["score_error"],
        "differences": found["differences"],
    }


def print_result(result: dict, as_json: bool) -> None:
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
