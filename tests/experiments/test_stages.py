# SPDX-License-Identifier: Apache-2.0
"""Which result counts as finished, what is refused and what a stage throws away."""

from pathlib import Path

import numpy as np
import pytest

from experiments import stages
from experiments.command_line import STAGES
from experiments.detection_options import DetectionOptions
from experiments.run_context import Run
from experiments.run_folder import RunError, write_json
from tests import torch_samples

FOLDERS = ("search", "train", "test", "export", "graph", "hls", "simulate")
CHANGES = {
    "preset": "demo",
    "net": "skynet",
    "quantiser": "dorefa",
    "slim": 2,
    "unquantised": True,
    "init": Path("trained.pt"),
    "data": Path("frames"),
    "device": "xc7z020",
    "clock_mhz": 100.0,
    "csim_frames": 1,
    "seed": 1,
    "relaxation": "gumbel_hard",
    "lam": 0.5,
    "tau_first": 3.0,
    "tau_last": 0.25,
    "search_steps": 3,
    "train_steps": 3,
    "box_gain": 1.0,
    "warm_start": False,
    "wbits": "444444444",
    "abits": "844444444",
}
EVERYWHERE = {"preset", "data", "seed", "relaxation", "lam", "tau_first", "tau_last"}
EVERYWHERE |= {"search_steps", "box_gain"}


@pytest.fixture(autouse=True)
def in_a_folder_with_the_file_of_init(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("init")
    torch_samples.write(folder / "trained.pt", {"conv.weight": np.zeros((1, 1))})
    monkeypatch.chdir(folder)


def run_of(out: Path, **given) -> Run:
    options = DetectionOptions(**{"preset": "smoke", "out": out, **given})
    return Run(options, options.resolved())


def finish(run: Run, *names: str) -> None:
    """Leave the results of stages as a finished run does."""
    for name in names:
        write_json(run.out / name / "result.json", {"options": run.recorded_options()})
        for folder in stages.OUTPUTS.get(name, ()):
            (run.out / folder).mkdir(exist_ok=True)


def other_run(run: Run, name: str) -> Run:
    given = {name: CHANGES[name]}
    if name in ("wbits", "abits"):  # given together or not at all
        given = {key: CHANGES[key] for key in ("wbits", "abits")}
    return run_of(run.out, **given)


def test_every_recorded_option_is_listed_here_and_decides_the_last_stage(tmp_path):
    recorded = set(run_of(tmp_path).recorded_options())
    assert set(CHANGES) == recorded == set(stages.DECIDING_OPTIONS["simulate"]) - {"dataset"}


def test_what_decides_a_stage_decides_those_after_it():
    assert set(stages.DECIDING_OPTIONS) == set(STAGES)
    for later, needed in stages.NEEDS.items():
        assert STAGES.index(needed) < STAGES.index(later)
        decides = stages.DECIDING_OPTIONS
        # trained widths may go to any device; those of a search belong to its DSPs
        assert set(decides[needed]) - set(decides[later]) <= {"device"}
    assert "device" in decides["search"]
    assert "device" not in decides["train"]
    assert "device" in decides["export"]
    assert set(stages.DECIDING_OPTIONS["search"]) >= EVERYWHERE
    assert {"train_steps", "warm_start", "wbits"} <= set(stages.DECIDING_OPTIONS["test"])
    assert "clock_mhz" not in stages.DECIDING_OPTIONS["train"]


def test_decided_by_gives_the_values_as_json(tmp_path):
    run = run_of(tmp_path, data=Path("frames"), lam=0.5, device="xck26")
    decided = stages.decided_by(run, "train")
    assert decided["data"] == "frames"
    assert (decided["lam"], decided["tau_first"], decided["preset"]) == (0.5, None, "smoke")
    assert "device" not in decided
    built = {"device": "xck26", "clock_mhz": 250.0, "csim_frames": None}
    assert stages.decided_by(run, "export") == decided | built


@pytest.mark.parametrize("stage", STAGES)
def test_finished_needs_a_result(tmp_path, stage):
    run = run_of(tmp_path)
    assert not stages.finished(run, stage)
    (tmp_path / stage).mkdir()
    assert not stages.finished(run, stage)
    (tmp_path / stage / "result.json").write_text('{"options": {"pre')
    assert not stages.finished(run, stage)
    finish(run, stage)
    assert stages.finished(run, stage)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_result_of_other_options_is_refused_where_they_decide(tmp_path, stage, name):
    run = run_of(tmp_path)
    finish(run, stage)
    other = other_run(run, name)
    if name not in stages.DECIDING_OPTIONS[stage]:
        assert stages.finished(other, stage)
        return
    with pytest.raises(RunError) as refused:
        stages.finished(other, stage)
    shown = "wbits" if name == "abits" else name  # the first of the two that differ
    flag = shown.replace("_", "-")
    before, now = (one.recorded_options()[shown] for one in (run, other))
    assert str(refused.value) == (
        f"{tmp_path / stage} was made with --{flag} {before}, now {now}; "
        f"give the same options, choose another --out, or run `{stage}` anew"
    )


@pytest.mark.parametrize("folder", ["graph", "hls"])
def test_an_export_whose_files_are_gone_is_not_finished(tmp_path, folder):
    run = run_of(tmp_path)
    finish(run, "export")
    assert stages.finished(run, "export")
    (tmp_path / folder).rmdir()
    assert not stages.finished(run, "export")


def test_folders_and_resume_decide_nothing(tmp_path):
    run = run_of(tmp_path)
    finish(run, *STAGES)
    other = run_of(tmp_path, cache=tmp_path / "elsewhere", resume=True)
    assert all(stages.finished(other, stage) for stage in STAGES)


def test_a_result_without_options_is_of_other_options(tmp_path):
    write_json(tmp_path / "search/result.json", {})
    with pytest.raises(RunError, match="search was made with --preset None, now smoke; "):
        stages.finished(run_of(tmp_path), "search")


def test_search_needs_nothing(tmp_path):
    stages.check_predecessor(run_of(tmp_path), "search")


@pytest.mark.parametrize(
    ("stage", "needed"),
    [("train", "search"), ("test", "train"), ("export", "train"), ("simulate", "export")],
)
def test_a_missing_predecessor_is_named_with_its_command(tmp_path, stage, needed):
    run = run_of(tmp_path)
    finish(run, *(name for name in STAGES if name != needed))
    with pytest.raises(RunError) as refused:
        stages.check_predecessor(run, stage)
    assert str(refused.value) == (
        f"{tmp_path / needed / 'result.json'} is missing; "
        f"run `python -m experiments.dacsdc {needed} --out {tmp_path} --preset smoke` first"
    )
    finish(run, needed)
    stages.check_predecessor(run, stage)


def test_a_predecessor_of_other_options_is_refused(tmp_path):
    finish(run_of(tmp_path), "train")
    with pytest.raises(RunError, match="train was made with --seed 0, now 1; "):
        stages.check_predecessor(run_of(tmp_path, seed=1), "export")


def test_given_widths_need_no_search_but_do_need_training(tmp_path):
    run = run_of(tmp_path, wbits=CHANGES["wbits"], abits=CHANGES["abits"])
    stages.check_predecessor(run, "train")
    with pytest.raises(RunError, match=r"train/result\.json is missing"):
        stages.check_predecessor(run, "test")


REPLACED = [
    ("search", ()),
    ("train", ("search",)),
    ("test", ("search", "train", "export", "graph", "hls", "simulate")),
    ("export", ("search", "train", "test")),
    ("simulate", ("search", "train", "test", "export", "graph", "hls")),
]


@pytest.fixture
def full(tmp_path):
    """A run folder in which every stage has left a file."""
    for name in FOLDERS:
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below/file").write_text("old")
    return tmp_path


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("stage", "left"), REPLACED)
@pytest.mark.parametrize("keep_own", [False, True])
def test_a_stage_replaces_its_own_and_what_follows(full, stage, left, keep_own):
    own = {"export": {"export", "graph", "hls"}}.get(stage, {stage}) if keep_own else set()
    with stages.replacing(run_of(full), stage, keep_own):
        assert set(files(full)) == {f"{name}/below/file" for name in {*left, *own}} | {
            f".replaced/{name}/below/file" for name in {*FOLDERS} - {*left, *own}
        }
        (full / stage / "below").mkdir(parents=True, exist_ok=True)
        (full / stage / "below/file").write_text("new")
    assert files(full) == {
        f"{name}/below/file": "new" if name == stage else "old" for name in {stage, *left, *own}
    }


def work(folder: Path, stage: str, end: BaseException):
    with stages.replacing(run_of(folder), stage, keep_own=False):
        (folder / stage).mkdir()
        (folder / stage / "half").touch()
        raise end


@pytest.mark.parametrize("stage", [stage for stage, _ in REPLACED])
def test_an_error_brings_back_what_was_there(full, stage):
    before = files(full)
    with pytest.raises(RunError, match="no use"):
        work(full, stage, RunError("no use"))
    assert files(full) == before
    assert not (full / ".replaced").exists()


def test_an_interrupt_keeps_what_the_stage_has_done(full):
    with pytest.raises(KeyboardInterrupt):
        work(full, "train", KeyboardInterrupt())
    assert files(full) == {"search/below/file": "old", "train/half": ""}


def test_nothing_to_replace(tmp_path):
    with stages.replacing(run_of(tmp_path), "search", keep_own=False):
        pass
    assert list(tmp_path.iterdir()) == []
