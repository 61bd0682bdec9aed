# SPDX-License-Identifier: Apache-2.0
"""`python -m experiments.cifar` on a small set in the published format, as a user runs it."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hw import ir_io
from mixq_jax import evaluate, pretrained, torch_file
from mixq_jax.bits import FloatBits, parse_bits
from mixq_jax.data import cifar, mnist
from mixq_jax.export import to_graph
from mixq_jax.nets import classifier, vgg, vgg_tiny
from mixq_jax.nets.baselines import QUANTISERS
from mixq_jax.spec import NetSpec
from tests import torch_samples
from tests.network_samples import random_variables

pytestmark = [pytest.mark.slow, pytest.mark.csim]
TRAIN_IMAGES, TEST_IMAGES = 60, 40  # of a batch
W_BITS, A_BITS = "345672", "834567"


def run_cifar(folder: Path, *arguments: str, preset: str | None = "smoke") -> str:
    """Run the program in `folder`; return what it printed."""
    command = [sys.executable, "-m", "experiments.cifar", *arguments]
    command += ["--preset", preset] if preset else []
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


def test_a_residual_network_goes_from_search_to_report(folder):
    out = run_cifar(folder, "--net", "resnet8", "--data", "set", "--out", "resnet8")
    assert out.strip() == "report: resnet8/report.html"
    check_end(read(folder / "resnet8/report.json"), "resnet8")


def write_mnist(folder: Path) -> None:
    """Write random digits as IDX files: every class has a level."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for split, count in (("train", 5 * TRAIN_IMAGES), ("test", TEST_IMAGES)):
        images_name, labels_name = mnist.FILES[split]
        labels = rng.integers(0, 10, count).astype(np.uint8)
        levels = rng.integers(0, 60, (count, 28, 28)) + 20 * labels[:, None, None]
        for name, values in ((images_name, levels.astype(np.uint8)), (labels_name, labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
            (folder / name).write_bytes(bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes())


def test_digits_go_from_search_to_report(folder):
    write_mnist(folder / "digits")
    out = run_cifar(folder, "--dataset", "mnist", "--data", "digits", "--out", "mnist")
    assert out.strip() == "report: mnist/report.html"
    report = read(folder / "mnist/report.json")
    check_end(report, "vgg_tiny")
    assert report["data"]["classes"] == list(mnist.CLASSES)
    assert report["options"]["dataset"] == "mnist"


def check_end(report: dict, net: str) -> None:
    assert report["network"]["name"] == net
    assert report["missing"] == []
    assert list(report["bits"]) == report["network"]["layers"]
    assert report["searched_bits"] == report["bits"]
    assert report["csim"]["frames"] == 4
    assert report["csim"]["mismatches"] == 0
    assert all(0 <= score <= 1 for score in report["accuracy"].values())
    assert 0 < report["resources"]["dsp"] <= report["device"]["dsp"]


def smoke_spec() -> NetSpec:
    channels = tuple(count // 8 for count in vgg.CHANNELS)
    return vgg_tiny(32, QUANTISERS["mixq"], channels)


def write_checkpoint(path: Path) -> Path:
    """Write a random network as training programs save theirs, with its widths."""
    spec = smoke_spec()
    state = torch_samples.state_dict(spec, random_variables(spec, 0))
    return torch_samples.write(path, state, W_BITS, A_BITS)


def test_a_checkpoint_is_taken_as_it_is(folder):
    """--init with no training: the graph is that of the file's weights, and all stages follow."""
    path = write_checkpoint(folder / "trained.pt")
    run_cifar(
        folder,
        *("--data", "set", "--out", "init", "--init", "trained.pt", "--train-steps", "0"),
        *("--slim", "8"),
    )
    report = read(folder / "init/report.json")
    check_report(report)
    assert report["missing"] == []
    assert report["warm_start"] is False
    assert read(folder / "init/train/result.json")["steps"] == 0
    widths = [[int(w), int(a)] for w, a in zip(W_BITS, A_BITS, strict=True)]
    assert [pair for name, pair in report["bits"].items() if name != "classifier"] == widths
    spec = smoke_spec()
    variables = pretrained.to_variables(spec, torch_file.load(path).tensors)
    expected = to_graph(spec, parse_bits(W_BITS, A_BITS, spec.fixed_bits), variables)
    assert ir_io.dumps(ir_io.load(folder / "init/graph")) == ir_io.dumps(expected)
    page = (folder / "init/report.html").read_text()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert f"0 steps from the weights of trained.pt (sha256 {digest})" in page
    assert "The widths were given; no search was run." in page


def test_a_checkpoint_is_measured_as_it_is(folder):
    """Quantised, integer and simulated alike."""
    write_checkpoint(folder / "measured.pt")
    given = ("test", "--init", "measured.pt", "--data", "set", "--slim", "8", "--json")
    found = json.loads(run_cifar(folder, *given, preset=None))
    assert found["net"] == "vgg_tiny"
    assert found["quantiser"] == "mixq"
    assert found["frames"] == TEST_IMAGES
    assert set(found["accuracy"]) == {"quant", "integer", "csim"}
    assert found["accuracy"]["csim"] == found["accuracy"]["integer"]
    assert abs(found["accuracy"]["quant"] - found["accuracy"]["integer"]) <= 1 / TEST_IMAGES
    assert found["codes_frames"] == 20
    assert 0 <= found["codes_differing"] < found["codes"] / 100
    assert found["csim_frames"] == TEST_IMAGES
    assert found["csim_values"] == TEST_IMAGES * 10
    assert found["csim_mismatches"] == 0


def test_a_float_checkpoint_is_measured_as_published(folder):
    """The network that pools before its norms: some gammas are negative, where it matters."""
    spec = classifier("vgg_tiny", 32, "mixq", 8, unquantised=True)
    state = torch_samples.state_dict(spec, random_variables(spec, 3))
    assert (state["conv1_bn.weight"] < 0).any()
    path = torch_samples.write(folder / "float.pt", state)
    given = ("test", "--init", "float.pt", "--data", "set", "--slim", "8", "--json")
    found = json.loads(run_cifar(folder, *given, "--unquantised", preset=None))
    images = cifar.load(folder / "set", "test")
    variables = pretrained.to_variables(spec, torch_file.load(path).tensors)
    predict = evaluate.predictor(spec, variables, FloatBits())
    expected = evaluate.evaluated(spec, predict, images).score
    assert found["accuracy"] == {"float": expected}
    assert "csim_values" not in found
