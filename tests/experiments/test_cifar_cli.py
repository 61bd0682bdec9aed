# SPDX-License-Identifier: Apache-2.0
"""The classifiers' command line: where the data are, and that results know it."""

from pathlib import Path

import numpy as np
import pytest

from experiments import command_line, run_folder, stages
from experiments.cifar import PROGRAM
from experiments.command_line import main, parse, run_stages
from experiments.learning import search_card, train_card
from experiments.options import OptionError
from experiments.pretrained import run_pretrained
from experiments.run_context import Run
from experiments.run_folder import RunError
from mixq_jax.data.labelled import Labelled
from mixq_jax.nets import classifier
from tests import torch_samples
from tests.network_samples import random_variables

BITS = ("--wbits", "444444", "--abits", "844444")
BATCH = "cifar-10-batches-bin/data_batch_1.bin"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")


def run_of(*arguments: str) -> Run:
    options = parse(PROGRAM, ["train", "--preset", "smoke", *arguments])
    return Run(options, options.resolved())


def test_the_folder_of_the_environment_is_recorded(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXQ_DATA", str(tmp_path / "a"))
    run = run_of(*BITS)
    assert run.recorded_options()["data"] == str(tmp_path / "a")
    assert f" --data {tmp_path / 'a'}" in run.command("test")
    assert "data" not in run.options.given
    assert run_of("--data", "b").recorded_options()["data"] == "b"  # goes before
    monkeypatch.setenv("MIXQ_DATA", str(tmp_path / "b"))
    other = run_of(*BITS)
    assert train_card(run, run.chosen_bits()) != train_card(other, other.chosen_bits())
    assert search_card(run) != search_card(other)


def test_a_run_does_not_go_on_with_another_folder_of_the_environment(monkeypatch, tmp_path):
    out = tmp_path / "run"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("MIXQ_DATA", str(tmp_path / "a"))
    run = run_of(*BITS, "--out", str(out))
    run_folder.write_json(out / "train/result.json", {"options": run.recorded_options()})
    run_folder.write_json(out / "run.json", {})
    again = run_of(*BITS, "--out", str(out), "--resume", "--cache", str(tmp_path / "cache"))
    assert stages.finished(again, "train")
    run_stages(again.options, ("train",))  # keeps it
    monkeypatch.setenv("MIXQ_DATA", str(tmp_path / "b"))
    other = run_of(*BITS, "--out", str(out), "--resume", "--cache", str(tmp_path / "cache"))
    with pytest.raises(RunError, match=rf"made with --data {tmp_path}/a, now {tmp_path}/b; "):
        run_stages(other.options, ("train",))


def test_a_stage_does_not_replace_the_set_of_the_environment(monkeypatch, tmp_path):
    out = tmp_path / "run"
    (out / "train/set").mkdir(parents=True)
    (out / "run.json").write_text("{}")
    monkeypatch.setenv("MIXQ_DATA", str(out / "train/set"))
    run = run_of(*BITS, "--out", str(out), "--cache", str(tmp_path / "cache"))
    with pytest.raises(RunError, match=r"its 'train' would replace --data .*train/set"):
        run_stages(run.options, ("train",))
    assert (out / "train/set").is_dir()


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_folder_a_run_says_how_to_get_the_set(monkeypatch, value):
    monkeypatch.delenv("MIXQ_DATA", raising=False)
    if value is not None:
        monkeypatch.setenv("MIXQ_DATA", value)
    run = run_of(*BITS)
    assert run.options.data is None
    with pytest.raises(OptionError, match=r"^--data \(not given\): no folder of cifar10; download"):
        run.check(simulates=False)


def test_a_report_needs_no_data(monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("MIXQ_DATA", raising=False)
    assert main(PROGRAM, ["report", "--out", str(tmp_path / "none")]) == 2
    assert capfd.readouterr().err == (
        f"error: {tmp_path}/none/run.json is missing; "
        f"run `python -m experiments.cifar all --out {tmp_path}/none` first\n"
    )
    assert not Path(tmp_path / "none").exists()


@pytest.mark.parametrize("words", [["--json"], ["--unquantised"], ["--unquantised", "--json"]])
def test_a_note_on_the_data_stands_beside_the_scores(monkeypatch, tmp_path, capfd, words):
    out = tmp_path / "run"
    found = {"frames": 3, "note": "JPEG re-encoded", "score_name": "accuracy", "differences": {}}
    found |= {"score": {"float": 0.5}, "score_error": {"float": 0.1}}
    run_folder.write_json(out / "test/result.json", found)
    monkeypatch.setattr(command_line, "run_stages", lambda *_: None)
    assert main(PROGRAM, ["test", "--out", str(out), *words]) == 0
    assert "JPEG re-encoded" in capfd.readouterr().out


def test_a_note_on_the_data_stands_beside_the_scores_of_a_file(monkeypatch, tmp_path):
    spec = classifier("vgg_tiny", 32, "mixq", 16, unquantised=True)
    state = torch_samples.state_dict(spec, random_variables(spec, 0))
    path = torch_samples.write(tmp_path / "f.pt", state)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    data = Labelled(images, np.arange(4, dtype=np.int32), tuple("abcd"), "JPEG re-encoded")
    monkeypatch.setattr(Run, "test_data", data)
    words = ["test", "--init", str(path), "--slim", "16", "--unquantised", "--data", str(tmp_path)]
    found = run_pretrained(parse(PROGRAM, words))
    assert (found["frames"], found["note"]) == (4, "JPEG re-encoded")
