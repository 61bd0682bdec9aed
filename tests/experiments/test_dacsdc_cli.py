# SPDX-License-Identifier: Apache-2.0
"""The command line in process: parsing, one-line errors, exit codes, order of the stages."""

import io
import json
from functools import partial
from pathlib import Path

import pytest

import experiments.report
from experiments import command_line, evaluation, hardware, learning, run_context, stages
from experiments.command_line import STAGES, stages_of
from experiments.dacsdc import PROGRAM
from experiments.detection_options import DetectionOptions
from experiments.options import OptionError
from experiments.run_context import Run
from experiments.run_folder import RunError, write_json
from hw.device import DeviceError
from hw.hls import toolchain
from mixq_jax.bits import BitsError
from tests.experiments import report_inputs

COMMANDS = PROGRAM.commands
parse, main = partial(command_line.parse, PROGRAM), partial(command_line.main, PROGRAM)
BITS = ("--wbits", "444444444", "--abits", "844444444")
FUNCTIONS = {
    "search": (learning, "run_search"),
    "train": (learning, "run_train"),
    "test": (evaluation, "run_test"),
    "export": (hardware, "run_export"),
    "simulate": (hardware, "run_simulate"),
}


@pytest.fixture(autouse=True)
def wide(monkeypatch, capfd):
    """A terminal that breaks no line and takes UTF-8, wherever the tests run."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("arguments", [[], ["all"]])
def test_no_command_means_all(arguments):
    assert parse(arguments) == COMMANDS["all"]()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_class_of_its_own(command):
    options = parse([command, "--seed", "7"])
    assert type(options) is COMMANDS[command]
    assert options.seed == 7


def test_options_without_a_command_mean_all():
    assert parse(["--lam", "0.5", *BITS]) == COMMANDS["all"](
        lam=0.5, wbits="444444444", abits="844444444"
    )


def test_every_option_is_read():
    text = (
        "train --preset smoke --out o --data d --cache c --device xck26 --clock-mhz 99.5 --resume "
        "--seed 3 --relaxation gumbel_hard --lam 0.5 --tau-first 4 --tau-last 0.25 "
        "--search-steps 5 --train-steps 6 --box-gain 2 --warm-start False --wbits 4 --abits 8"
    )
    assert parse(text.split()) == COMMANDS["train"](
        preset="smoke",
        out=Path("o"),
        data=Path("d"),
        cache=Path("c"),
        device="xck26",
        clock_mhz=99.5,
        resume=True,
        seed=3,
        relaxation="gumbel_hard",
        lam=0.5,
        tau_first=4.0,
        tau_last=0.25,
        search_steps=5,
        train_steps=6,
        box_gain=2.0,
        warm_start=False,
        wbits="4",
        abits="8",
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", set()),
        ("test --out runs/dacsdc --preset demo", {"out", "preset"}),
        (
            "train --clock-mhz=250 --no-resume --search_steps 3",
            {"clock_mhz", "resume", "search_steps"},
        ),
    ],
)
def test_options_given_at_their_defaults_are_given(arguments, named):
    assert parse(arguments.split()).given == named


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--out", ""], "--out '': is empty; give a value or leave it out"),
        (["--data", "", "--resume"], "--data '': is empty; give a value or leave it out"),
        (["--cache="], "--cache= '': is empty; give a value or leave it out"),
        (["test", "--out", "x\0y"], r"--out 'x\x00y': holds a NUL character; leave that out"),
        (["--data=a\0b"], r"all '--data=a\x00b': holds a NUL character; leave that out"),
    ],
)
def test_words_that_lose_their_meaning_are_refused(capfd, ran, arguments, message):
    assert main(arguments) == 2
    assert capfd.readouterr().err == f"error: {message}\n"
    assert ran == []


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["--help"], "simulate"), (["-h"], "simulate"), (["search", "--help"], "--tau-first")],
)
def test_help_ends_with_code_0(capfd, arguments, shown):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert shown in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--colour", "red"], "Unrecognized options: --colour, red (see --help)"),
        (["bogus"], "Unrecognized options: bogus; Available subcommands: all, search, train, "),
        (["--resum"], "Unrecognized options: --resum; Perhaps you meant: --resume, --no-resume"),
        (["--seed", "few"], "Error parsing --seed: invalid literal for int() with base 10: 'few'"),
        (["--workers", "few"], "Error parsing --workers: 'few' is no INT (see --help)"),
        (["train", "--relaxation", "hard"], "invalid choice 'hard' for argument '--relaxation'."),
        (["--wbits"], "Missing value for argument '--wbits'."),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message):
    with pytest.raises(OptionError) as refused:
        parse(arguments)
    text = str(refused.value)
    assert text.startswith(message)
    assert text.endswith(" (see --help)")
    assert "\n" not in text
    assert not set("│─╭╰\x1b") & set(text)


def test_a_boxed_message_becomes_one_line():
    boxed = "\n".join(
        [
            "\x1b[31m╭─ Parsing error ─────╮\x1b[0m",
            "\x1b[31m│\x1b[0m Wrong value:   x     \x1b[31m│\x1b[0m",
            "│   of --seed         │",
            "│ ─────────────────── │",
            "│ Perhaps you meant:  │",
            "│     --speed         │",
            "│         far away    │",
            "│ ─────────────────── │",
            "│ Argument helptext:  │",
            "│     --seed INT      │",
            "│ ─────────────────── │",
            "│ For full helptext   │",
            "╰─────────────────────╯",
        ]
    )
    assert command_line._one_line(boxed) == (
        "Wrong value: x of --seed; Perhaps you meant: --speed (see --help)"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_command_runs_that_stage(stage):
    assert stages_of(stage, DetectionOptions()) == (stage,)
    if stage != "search":
        assert stages_of(stage, DetectionOptions(wbits="4", abits="4")) == (stage,)


def test_given_widths_leave_nothing_to_search(tmp_path, worked, capfd):
    """And what was trained at them stays."""
    arguments = (*BITS, "--preset", "smoke", "--out", str(tmp_path / "run"))
    arguments += ("--cache", str(tmp_path / "cache"))
    assert main(["train", *arguments]) == 0
    assert main(["search", *arguments]) == 2
    refusal = "error: search --wbits 444444444: the widths are given, so that there is nothing to "
    assert refusal in capfd.readouterr().err
    assert (tmp_path / "run/train/result.json").exists()


def test_all_runs_every_stage_and_given_widths_skip_the_search():
    assert stages_of("all", DetectionOptions()) == STAGES
    assert STAGES == ("search", "train", "test", "export", "simulate")
    assert stages_of("all", DetectionOptions(wbits="4", abits="4")) == STAGES[1:]
    assert stages_of("all", DetectionOptions(init=Path("x.pt"))) == STAGES[1:]
    assert stages_of("report", DetectionOptions()) == ()


def test_a_float_network_is_trained_and_tested_and_nothing_else():
    given = DetectionOptions(unquantised=True)
    assert stages_of("all", given) == ("train", "test")
    assert stages_of("train", given) == ("train",)
    for command in ("search", "export", "simulate", "report"):
        with pytest.raises(OptionError, match=f"{command} --unquantised: .* use `train`"):
            stages_of(command, given)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OptionError("x"), True),
        (RunError("x"), True),
        (DeviceError("x"), True),
        (BitsError("x"), True),
        (OSError("x"), True),
        (FileNotFoundError("x"), True),
        (FloatingPointError("x"), True),
        (ValueError("x"), False),
        (RuntimeError("x"), False),
        (ZeroDivisionError("x"), False),
        (KeyError("x"), False),
    ],
)
def test_whose_error_it_is(error, expected):
    assert command_line._is_users(error) is expected


def test_an_error_of_a_package_with_a_similar_name_is_not_ours():
    similar = type("HwError", (Exception,), {"__module__": "hwloc.errors"})
    assert not command_line._is_users(similar("x"))


@pytest.fixture
def ran(monkeypatch):
    """Replace what `main` runs; return the calls."""
    calls = []
    monkeypatch.setattr(command_line, "run_stages", lambda _, names: calls.append(names))

    def write_report(out, program):
        calls.append("report")
        assert program == "dacsdc"
        return out / "report.html"

    monkeypatch.setattr(experiments.report, "write_report", write_report)
    return calls


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("all", [STAGES, "report"]),
        ("report", ["report"]),
        *((stage, [(stage,)]) for stage in STAGES),
    ],
)
def test_only_all_and_report_write_the_report(ran, capfd, command, expected):
    assert main([command, "--out", "x"]) == 0
    assert ran == expected
    shown = capfd.readouterr()
    assert shown.out == ("report: x/report.html\n" if "report" in expected else "")
    assert shown.err == ""


@pytest.mark.parametrize("words", ["--seed 0", "--data nowhere", "--resume", "--unquantised"])
def test_a_report_takes_no_options_of_the_run(ran, capfd, words):
    assert main(["report", "--out", "x", *words.split()]) == 2
    flag = words.split()[0]
    assert f"error: report: {flag} " in (shown := capfd.readouterr()).err
    assert "has no effect on what a run has left; leave it out\n" in shown.err
    assert ran == []


@pytest.mark.parametrize("command", ["search", "train", "export", "simulate"])
def test_only_what_prints_takes_json(ran, capfd, command):
    assert main([command, "--json"]) == 2
    assert f"error: {command} --json: prints nothing; only `test`, " in capfd.readouterr().err
    assert ran == []


def test_a_report_is_printed_as_json(tmp_path, capfd):
    out = report_inputs.write_run(tmp_path / "run", steps=2)
    assert main(["report", "--out", str(out), "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == json.loads((out / "report.json").read_text())
    assert printed["missing"] == []


def fails_with(monkeypatch, error: BaseException) -> None:
    def fail(*_):
        raise error

    monkeypatch.setattr(command_line, "run_stages", fail)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OptionError("--seed -1: must be more"), "--seed -1: must be more"),
        (RunError("two\n  lines"), "two lines"),
        (FloatingPointError("loss is not finite at step 3"), "loss is not finite at step 3"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
    ],
)
def test_an_error_of_the_user_is_one_line_and_code_2(monkeypatch, capfd, ran, error, line):
    fails_with(monkeypatch, error)
    assert main([]) == 2
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", f"error: {line}\n")
    assert ran == []


def test_an_error_of_ours_keeps_its_traceback(monkeypatch, ran):
    fails_with(monkeypatch, ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        main([])


def test_an_interrupt_is_code_130_and_says_how_to_go_on(monkeypatch, capfd, ran):
    fails_with(monkeypatch, KeyboardInterrupt())
    assert main([]) == 130
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "interrupted; the same command with --resume goes on\n"
    assert ran == []


def test_a_wrong_argument_is_code_2(ran, capfd):
    assert main(["--colour", "red"]) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "error: Unrecognized options: --colour, red (see --help)\n"
    assert ran == []


def smoke(folder: Path, **given) -> DetectionOptions:
    return DetectionOptions(
        **{"preset": "smoke", "out": folder / "run", "cache": folder / "cache", **given}
    )


@pytest.fixture
def worked(monkeypatch):
    """Replace the work of every stage; return what was called, in order."""
    calls = []

    def stand_in(stage: str):
        def work(run: Run) -> dict:
            assert not (run.out / stage / "result.json").exists()
            calls.append(stage)
            for name in stages.OUTPUTS.get(stage, ()):
                (run.out / name).mkdir()
            return {"made by": stage}

        return work

    for stage, (module, name) in FUNCTIONS.items():
        monkeypatch.setattr(module, name, stand_in(stage))

    def write_card(run: Run) -> None:
        calls.append("card")
        (run.out / "run.json").touch()

    monkeypatch.setattr(Run, "write_card", write_card)
    monkeypatch.setattr(toolchain, "find", lambda: calls.append("toolchain"))
    monkeypatch.setattr(hardware, "check_fits", lambda run, names: calls.append(("fits", names)))
    monkeypatch.setattr(
        run_context, "keep_compiled_programs", lambda cache: calls.append(cache.name)
    )
    return calls


def test_stages_run_in_order_and_leave_their_results(tmp_path, worked):
    options = smoke(tmp_path, lam=0.5)
    command_line.run_stages(options, STAGES)
    assert worked[:3] == ["toolchain", "cache", ("fits", STAGES)]
    assert worked[3:] == [call for stage in STAGES for call in ("card", stage)]
    recorded = Run(options, options.resolved()).recorded_options()
    for stage in STAGES:
        result = json.loads((tmp_path / "run" / stage / "result.json").read_text())
        assert result["made by"] == stage
        assert result["options"] == recorded
        assert result["seconds"] >= 0
    assert (tmp_path / "cache").is_dir()


def test_only_a_simulation_needs_the_compiler(tmp_path, worked):
    command_line.run_stages(smoke(tmp_path), ("search",))
    assert "toolchain" not in worked


def test_resume_keeps_what_is_finished(tmp_path, worked):
    command_line.run_stages(smoke(tmp_path), STAGES[:3])
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("result.json")}
    worked.clear()
    command_line.run_stages(smoke(tmp_path, resume=True), STAGES)
    assert [call for call in worked if call in STAGES] == ["export", "simulate"]
    assert len(before) == 3
    assert {path: path.read_bytes() for path in before} == before


def test_without_resume_a_stage_and_what_follows_are_made_anew(tmp_path, worked):
    command_line.run_stages(smoke(tmp_path), STAGES)
    (tmp_path / "run/train/checkpoint").mkdir()
    worked.clear()
    command_line.run_stages(smoke(tmp_path), ("train",))
    assert [call for call in worked if call in STAGES] == ["train"]
    left = {path.parent.name for path in (tmp_path / "run").rglob("result.json")}
    assert left == {"search", "train"}
    assert not (tmp_path / "run/train/checkpoint").exists()


def test_a_resumed_stage_keeps_its_checkpoint(tmp_path, worked):
    (tmp_path / "run/search/checkpoint").mkdir(parents=True)
    (tmp_path / "run/run.json").touch()
    command_line.run_stages(smoke(tmp_path, resume=True), ("search",))
    assert (tmp_path / "run/search/checkpoint").exists()


def test_a_stage_without_its_predecessor_removes_nothing(tmp_path, worked):
    command_line.run_stages(smoke(tmp_path), ("search", "train", "test"))
    before = sorted(tmp_path.rglob("*"))
    worked.clear()
    with pytest.raises(RunError, match="train was made with --train-steps None, now 9; "):
        command_line.run_stages(smoke(tmp_path, train_steps=9), ("test",))
    assert sorted(tmp_path.rglob("*")) == before
    assert not {"card", *STAGES} & set(worked)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"data": Path("nowhere")}, "--data nowhere: no such folder"), ({"lam": -1.0}, "--lam -1.0")],
)
def test_wrong_options_leave_no_folder(tmp_path, worked, given, message):
    with pytest.raises(OptionError, match=message):
        command_line.run_stages(smoke(tmp_path, **given), STAGES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "cache"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, worked, name):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=f"--{name} .*file: cannot write there"):
        command_line.run_stages(smoke(tmp_path, **{name: tmp_path / "file"}), ("search",))
    assert worked == []


def test_a_result_of_other_options_is_refused_on_resume(tmp_path, worked):
    write_json(tmp_path / "run/search/result.json", {"options": {"preset": "demo"}})
    (tmp_path / "run/run.json").touch()
    with pytest.raises(RunError, match="search was made with --preset demo, now smoke; "):
        command_line.run_stages(smoke(tmp_path, resume=True), ("search",))
    assert "search" not in worked


def test_an_interrupted_run_ends_at_once(monkeypatch):
    ended = []
    monkeypatch.setattr(command_line.os, "_exit", ended.append)
    with pytest.raises(SystemExit):  # only because the process did not end
        command_line.end(command_line.INTERRUPTED)
    assert ended == [130]
    with pytest.raises(SystemExit) as normal:
        command_line.end(2)
    assert (ended, normal.value.code) == ([130], 2)


def test_a_name_that_the_terminal_cannot_show_is_spelled(tmp_path, monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(
        command_line.sys, "stderr", io.TextIOWrapper(shown, "ascii", write_through=True)
    )
    assert main(["report", "--out", str(tmp_path / "图")]) == 2
    assert shown.getvalue().startswith(f"error: {tmp_path}/\\u56fe/run.json is missing; ".encode())
