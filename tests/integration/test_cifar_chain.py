# SPDX-License-Identifier: Apache-2.0
"""`python -m experiments.cifar` on a small set in the published format, as a user runs it."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hw import ir_io
from mixq_jax import pretrained, torch_file
from mixq_jax.bits import parse_bits
from mixq_jax.data import cifar
from mixq_jax.export import to_graph
from mixq_jax.nets import vgg, vgg_tiny
from mixq_jax.nets.baselines import QUANTISERS
from mixq_jax.spec import NetSpec
from tests.network_samples import random_variables

pytestmark = [pytest.mark.slow, pytest.mark.csim]
TRAIN_IMAGES, TEST_IMAGES = 60, 40  # of a batch
W_BITS, A_BITS = "345672", "834567"


def run_cifar(folder: Path, *arguments: str) -> str:
    """Run the program in `folder`; return what it printed."""
    command = [sys.executable, "-m", "experiments.cifar", *arguments, "--preset", "smoke"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with a set of random images in it: planes of every class have a level."""
    folder, rng = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    batches = folder / "set/cifar-10-batches-bin"
    batches.mkdir(parents=True)
    for name in (*cifar.TRAIN_BATCHES, *cifar.TEST_BATCHES):
        count = TEST_IMAGES if name in cifar.TEST_BATCHES else TRAIN_IMAGES
        labels = rng.integers(0, 10, (count, 1))
        planes = rng.integers(0, 60, (count, 3072)) + 20 * labels
        records = np.concatenate([labels, planes], 1).astype(np.uint8)
        (batches / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def check_report(report: dict) -> None:
    assert report["network"]["name"] == "vgg_tiny"
    assert report["network"]["fixed"] == ["classifier"]
    assert report["bits"]["classifier"] == [8, 8]
    assert report["data"]["classes"] == list(cifar.CLASSES)
    frames = (report["data"]["train_frames"], report["data"]["test_frames"])
    assert frames == (5 * TRAIN_IMAGES, TEST_IMAGES)
    assert report["csim"]["frames"] == 4
    assert report["csim"]["mismatches"] == 0
    assert set(report["accuracy"]) == {"float", "quant", "integer", "constant"}
    assert all(0 <= score <= 1 for score in report["accuracy"].values())
    assert 0 < report["resources"]["dsp"] <= report["device"]["dsp"]


def test_smoke_run_ends_with_a_report(folder):
    out = run_cifar(folder, "--data", "set", "--out", "smoke")
    assert out.strip() == "report: smoke/report.html"
    report = read(folder / "smoke/report.json")
    check_report(report)
    assert report["missing"] == []
    assert report["searched_bits"] == report["bits"]
    assert "Sample answers" in (folder / "smoke/report.html").read_text()
    assert (folder / "smoke/hls/src/top.cpp").exists()


def smoke_spec() -> NetSpec:
    channels = tuple(count // 8 for count in vgg.CHANNELS)
    return vgg_tiny(32, QUANTISERS["mixq"], channels)


def write_checkpoint(path: Path) -> None:
    """Write a random network as training programs save theirs, with its widths."""
    spec, state = smoke_spec(), {}
    variables = random_variables(spec, 0)
    for layer in spec.convs:
        kernel = variables["params"][f"{layer.name}_kernel"]
        if layer.norm:
            stats = variables["batch_stats"][layer.name]
            state |= {
                f"{layer.name}.weight": kernel.transpose(3, 2, 0, 1).copy(),
                f"{layer.name}_bn.weight": variables["params"][f"{layer.name}_gamma"],
                f"{layer.name}_bn.bias": variables["params"][f"{layer.name}_beta"],
                f"{layer.name}_bn.running_mean": stats.mean,
                f"{layer.name}_bn.running_var": stats.var,
            }
        else:
            state |= {
                f"{layer.name}.weight": kernel[0, 0].T.copy(),
                f"{layer.name}.bias": variables["params"][f"{layer.name}_bias"],
            }
    widths = {"bitw": list(map(int, W_BITS)), "bita": list(map(int, A_BITS))}
    with zipfile.ZipFile(path, "w") as archive:
        content = pickle.dumps({"model": state, "model_params": widths}, 2)
        archive.writestr("archive/data.pkl", content)


def test_a_checkpoint_is_taken_as_it_is(folder):
    """--init with no training: the graph is that of the file's weights, and all stages follow."""
    path = folder / "trained.pt"
    write_checkpoint(path)
    run_cifar(
        folder,
        *("--data", "set", "--out", "init", "--init", "trained.pt", "--train-steps", "0"),
    )
    report = read(folder / "init/report.json")
    check_report(report)
    assert report["missing"] == ["search"]
    assert report["warm_start"] is False
    assert read(folder / "init/train/result.json")["steps"] == 0
    widths = [[int(w), int(a)] for w, a in zip(W_BITS, A_BITS, strict=True)]
    assert [pair for name, pair in report["bits"].items() if name != "classifier"] == widths
    spec = smoke_spec()
    variables = pretrained.to_variables(spec, torch_file.load(path).tensors)
    expected = to_graph(spec, parse_bits(W_BITS, A_BITS, spec.fixed_bits), variables)
    assert ir_io.dumps(ir_io.load(folder / "init/graph")) == ir_io.dumps(expected)
    page = (folder / "init/report.html").read_text()
    assert "0 steps from the weights of trained.pt" in page
    assert "The widths were given; no search was run." in page
