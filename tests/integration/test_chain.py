# SPDX-License-Identifier: Apache-2.0
"""The command line from data to report, as a user runs it: smoke preset, resume, wrong input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import run_context
from experiments.command_line import main
from experiments.dacsdc import PROGRAM
from mixq_jax.data import synthetic
from mixq_jax.nets import detector

BITS = ("--wbits", "444444444", "--abits", "844444444")


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "experiments.dacsdc", *arguments]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def dacsdc(folder: Path, *arguments: str) -> tuple[int, str, str]:
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """Return dacsdc's twin that runs in this process, in `tmp_path`: for what ends early."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_context, "keep_compiled_programs", lambda cache: None)
    handler = signal.getsignal(signal.SIGINT)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(PROGRAM, list(arguments))
        return code, *capfd.readouterr()

    yield run
    signal.signal(signal.SIGINT, handler)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """One working folder for the module: data and compiled programs are kept in it."""
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def finished(folder) -> Path:
    """A whole smoke run."""
    code, out, err = dacsdc(folder, "--preset", "smoke", "--out", "smoke")
    assert code == 0, err
    assert out.strip() == "report: smoke/report.html"
    return folder / "smoke"


@pytest.mark.slow
@pytest.mark.csim
def test_smoke_run_ends_with_a_report(finished):
    report = json.loads((finished / "report.json").read_text())
    assert report["schema"] == 2
    assert set(report["bits"]) == {f"conv{i}" for i in range(9)}
    assert all(2 <= b <= 8 for pair in report["bits"].values() for b in pair)
    assert {"float", "quant", "integer"} <= set(report["iou"])
    assert report["csim"]["frames"] == 2
    assert report["csim"]["mismatches"] == 0
    cycles = report["cycles"]
    assert cycles["interval"] >= cycles["closed_form_interval"] > 0
    assert cycles["latency"] > 0
    assert cycles["bottleneck"] in cycles["per_process"]
    assert cycles["fps_at_clock"] == pytest.approx(250e6 / cycles["interval"])
    assert 0 < report["resources"]["dsp"] <= report["device"]["dsp"]
    assert {"lut", "bram18"} <= set(report["resources"])
    assert {"search", "train", "test", "export", "simulate"} <= set(report["seconds"])
    assert "jax" in report["versions"]


@pytest.mark.slow
@pytest.mark.csim
@pytest.mark.parametrize("net", ["ultranet_bypass", "skynet", "skynet_k5"])
def test_every_detector_goes_from_search_to_report(folder, net):
    code, out, err = dacsdc(folder, "--preset", "smoke", "--net", net, "--out", net)
    assert code == 0, err
    assert out.strip() == f"report: {net}/report.html"
    report = json.loads((folder / net / "report.json").read_text())
    assert report["missing"] == []
    assert report["network"]["name"] == detector(net, 48, 96, "ours", 4).name
    assert list(report["bits"]) == report["network"]["layers"]
    assert report["searched_bits"] == report["bits"]
    assert report["csim"]["frames"] == 2
    assert report["csim"]["mismatches"] == 0
    assert all(0 <= score <= 1 for score in report["iou"].values())
    assert 0 < report["resources"]["dsp"] <= report["device"]["dsp"]
    assert (folder / net / "hls/src/top.cpp").exists()


@pytest.mark.slow
@pytest.mark.csim
def test_smoke_run_leaves_what_engineers_and_researchers_take(finished):
    assert (finished / "hls/src/top.cpp").exists()
    assert (finished / "hls/run_hls.tcl").exists()
    assert (finished / "graph/graph.json").exists()
    page = (finished / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    lines = [json.loads(x) for x in (finished / "search/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(12))
    names = {"task", "cost", "alpha_w", "alpha_a", "entropy_w", "expected_w", "argmax_w"}
    assert names <= set(lines[0])
    assert not list(finished.rglob(".*.tmp"))


@pytest.mark.slow  # in process: test_search, test_learning_stages
@pytest.mark.csim
def test_interrupted_search_resumes_to_the_same_result(folder, finished):
    whole = (finished / "search/metrics.jsonl").read_text()
    process = start(folder, "search", "--preset", "smoke", "--out", "cut")
    metrics = folder / "cut/search/metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not metrics.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    if process.returncode != 0:  # else it was done before the signal came
        assert process.returncode == 130
        assert "interrupted; the same command with --resume goes on" in err.splitlines()
        assert "Traceback" not in err
    code, _, err = dacsdc(folder, "search", "--preset", "smoke", "--out", "cut", "--resume")
    assert code == 0, err
    assert metrics.read_text() == whole
    results = [
        json.loads((base / "search/result.json").read_text()) for base in (finished, folder / "cut")
    ]
    assert results[0]["bits"] == results[1]["bits"]


@pytest.mark.slow
@pytest.mark.csim
def test_resume_of_a_finished_run_keeps_it(folder, finished):
    before = (finished / "train/result.json").read_text()
    code, _, err = dacsdc(folder, "--preset", "smoke", "--out", "smoke", "--resume")
    assert code == 0, err
    assert (finished / "train/result.json").read_text() == before


@pytest.mark.slow
@pytest.mark.csim
def test_resume_with_other_options_is_refused(folder, finished):
    code, _, err = dacsdc(folder, "--preset", "smoke", "--out", "smoke", "--resume", "--lam", "0.5")
    assert code == 2
    assert "was made with --lam None, now 0.5" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.csim
def test_checkpoint_of_another_network_is_refused(folder, finished, frames):
    copy = folder / "other"
    shutil.copytree(finished, copy, dirs_exist_ok=True)
    before = sorted(path.relative_to(copy) for path in copy.rglob("*"))
    code, _, err = dacsdc(
        folder, "export", "--preset", "demo", "--out", "other", "--data", str(frames)
    )
    assert code == 2
    assert err.strip().startswith("error: other/train was made with --preset smoke, now demo; ")
    assert sorted(path.relative_to(copy) for path in copy.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.csim
def test_simulation_refuses_what_was_not_exported_for_it(folder, finished):
    copy = folder / "moved"
    shutil.copytree(finished, copy, dirs_exist_ok=True)
    arguments = ("simulate", "--preset", "smoke", "--out", "moved")
    code, _, err = dacsdc(folder, *arguments, "--device", "xc7z020")
    assert code == 2
    assert "moved/export was made with --device xczu3eg, now xc7z020" in err
    result = copy / "export/result.json"
    result.write_text(result.read_text().replace('"digest": "', '"digest": "0'))
    code, _, err = dacsdc(folder, *arguments)
    assert code == 2
    assert "moved/hls was exported from another graph or by another version" in err


@pytest.mark.slow
@pytest.mark.csim
def test_damaged_checkpoint_is_one_line(folder, finished):
    copy = folder / "damaged"
    shutil.copytree(finished, copy, dirs_exist_ok=True)
    for path in (copy / "train/checkpoint").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:50])
    code, _, err = dacsdc(folder, "export", "--preset", "smoke", "--out", "damaged")
    assert code == 2
    assert "Traceback" not in err
    (line,) = (text for text in err.splitlines() if "kept" not in text)
    assert line.startswith("error: cannot read checkpoint damaged/train/checkpoint/20: its files")
    assert (copy / "test/result.json").exists()


def test_empty_search_result_is_one_line(tmp_path):
    (tmp_path / "run/search").mkdir(parents=True)
    (tmp_path / "run/search/result.json").write_text("{}")
    (tmp_path / "run/run.json").touch()
    code, _, err = dacsdc(tmp_path, "train", "--preset", "smoke", "--out", "run")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "run/search was made with --preset None, now smoke" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--preset", "huge"), "--preset huge: unknown; choose smoke, demo, full, paper"),
        (("--device", "xc9"), "unknown device 'xc9'; known: "),
        (
            ("--wbits", "44", "--abits", "84"),
            "--wbits 44 --abits 84: bit string '44' must have 9 digits, one for each layer",
        ),
        (
            ("--wbits", "999999999", "--abits", "844444444"),
            "--wbits 999999999 --abits 844444444: bit-width 9 is not in 2..8",
        ),
        (("--wbits", "444444444"), "--wbits and --abits belong together"),
        (("--clock-mhz", "0"), "--clock-mhz 0.0: must be in 1..2000"),
        (("--search-steps", "0"), "--search-steps 0: must be in 1..1073741824"),
        (("--lam", "-1"), "--lam -1.0: must be in 0..1000000"),
        (("--lam", "nan"), "--lam nan: must be in 0..1000000"),
        (("--tau-first", "inf"), "--tau-first inf: must be in 0.001..1000"),
        (("--clock-mhz", "nan"), "--clock-mhz nan: must be in 1..2000"),
        (("--seed", "-1"), "--seed -1: must be in 0..4294967295"),
        (("--colour", "red"), "error: Unrecognized options: --colour, red (see --help)"),
        (
            ("--resum",),
            "Unrecognized options: --resum; Perhaps you meant: --resume, --no-resume (see --help)",
        ),
        (("--seed", "few"), "error: Error parsing --seed: invalid literal for int()"),
        (("--out", "/proc/mixq"), "--out /proc/mixq: cannot write there"),
        (("--data", "nowhere"), "--data nowhere: no such folder"),
    ],
)
def test_wrong_options(here, arguments, message):
    code, _, err = here("--preset", "smoke", "--out", "run", *arguments)
    assert code == 2, err
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_parser_messages_do_not_depend_on_the_terminal(tmp_path, monkeypatch, encoding):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    code, _, err = dacsdc(tmp_path, "--colour", "red")
    assert (code, err) == (2, "error: Unrecognized options: --colour, red (see --help)\n")


def test_stage_without_its_predecessor(tmp_path):
    code, _, err = dacsdc(tmp_path, "train", "--preset", "smoke", "--out", "run")
    assert code == 2
    assert "search/result.json is missing; run `python -m experiments.dacsdc search --out" in err


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "set"
    synthetic.generate(
        path, synthetic.SyntheticConfig(height=48, width=96, train_frames=4, test_frames=2)
    )
    return path


def break_jpg(folder: Path) -> Path:
    path = next(folder.rglob("*.jpg"))
    path.write_bytes(b"not an image")
    return path


def remove_jpg(folder: Path) -> Path:
    path = next(folder.rglob("*.jpg"))
    path.unlink()
    return path.with_suffix(".xml")  # what is left of the pair


def remove_xml(folder: Path) -> Path:
    path = next(folder.rglob("*.xml"))
    path.unlink()
    return path.with_suffix(".jpg")  # what is left of the pair


def break_xml(folder: Path) -> Path:
    path = next(folder.rglob("*.xml"))
    path.write_text("<annotation>")
    return path


def endless_size(folder: Path) -> Path:
    path = next(folder.rglob("*.xml"))
    path.write_text(path.read_text().replace("<width>96", "<width>inf"))
    return path


def without_box(folder: Path) -> Path:
    path = next(folder.rglob("*.xml"))
    text = path.read_text()
    path.write_text(text[: text.index("<object>")] + "</annotation>")
    return path


def box_outside(folder: Path) -> Path:
    path = next(folder.rglob("*.xml"))
    head, tail = path.read_text().split("<xmax>")
    path.write_text(f"{head}<xmax>9000{tail[tail.index('</xmax>') :]}")
    return path


def empty(folder: Path) -> Path:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


@pytest.mark.parametrize(
    "damage",
    [
        break_jpg,
        remove_jpg,
        remove_xml,
        break_xml,
        endless_size,
        without_box,
        box_outside,
        empty,
    ],
)
def test_wrong_data_is_one_line_that_names_the_file(frames, tmp_path, here, damage):
    shutil.copytree(frames, tmp_path / "set")
    damaged = damage(tmp_path / "set").relative_to(tmp_path)
    code, _, err = here("train", "--preset", "smoke", "--out", "run", "--data", "set", *BITS)
    assert code == 2, err
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"error: {damaged}")
    assert not (tmp_path / "run/train/result.json").exists()
