# SPDX-License-Identifier: Apache-2.0
"""`test --init` of a contest team's detector: its numbers against a computation of their own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import pretrained, run_context
from experiments.command_line import main, parse
from experiments.dacsdc import PROGRAM
from experiments.run_context import Run
from hw.execute import execute
from hw.hls.csim import CsimResult
from mixq_jax import torch_file
from mixq_jax.bits import FixedBits
from mixq_jax.data import dacsdc
from mixq_jax.export import to_graph
from mixq_jax.nets import detector
from mixq_jax.pretrained import to_variables
from mixq_jax.spec import NetSpec
from tests import torch_samples
from tests.network_samples import random_variables

HEIGHT, WIDTH, SLIM = 48, 96, 8  # of the smoke preset
FRAMES, SIZE = 3, (288, 96)  # width and height of their files
BITS = FixedBits((4,) * 9, (8, *(4,) * 8))
PARTS = {"ultranet": "layers", "ultranet_bypass": "layers_p1 layers_p2 layers_p3 layers_p4"}
GIVEN = ("--preset", "smoke", "--slim", str(SLIM), "--json")


@pytest.fixture
def frames(tmp_path) -> Path:
    """A flat folder, as the contest's samples are: `test --init` takes all of it."""
    folder, rng = tmp_path / "frames", np.random.default_rng(0)
    folder.mkdir()
    for number in range(FRAMES):
        pixels = rng.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), np.uint8)
        Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(folder / f"{number}.jpg")
        label(folder, number, (0, 0, 9, 9))
    return folder


def label(folder: Path, number: int, corners: tuple[int, ...]) -> None:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{side}>{edge}</{side}>" for side, edge in sides)
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    (folder / f"{number}.xml").write_text(
        f"<annotation><filename>{number}.jpg</filename>{size}"
        f"<object><name>car1</name><bndbox>{box}</bndbox></object></annotation>"
    )


def label_near(folder: Path, boxes: np.ndarray) -> None:
    """Label every frame a few pixels beside a box (x, y, w, h in units of the frame)."""
    limits = np.array(SIZE)
    for number, box in enumerate(boxes):
        low, high = (box[:2] - box[2:] / 2) * limits, (box[:2] + box[2:] / 2) * limits
        low = np.clip(np.round(low) + number, 0, limits - 9)
        high = np.clip(np.round(high) + number, low + 5, limits)
        label(folder, number, tuple(int(edge) for edge in (*low, *high)))


def checkpoint(folder: Path, net: str) -> tuple[Path, NetSpec]:
    """Write a random network as the teams' programs save theirs: modules in one or four lists."""
    spec = detector(net, HEIGHT, WIDTH, "contest", SLIM)
    lists, state = PARTS[net].split(), {}
    tensors = torch_samples.state_dict(spec, random_variables(spec, 4))
    sides = tensors[f"{spec.output.name}.bias"].reshape(6, 6)[:, 2:4]
    sides += 1  # boxes of a visible size
    for at, layer in enumerate(spec.convs):
        owner = lists[min(at // 3, len(lists) - 1)]
        for name, value in tensors.items():
            module, _, field = name.rpartition(".")
            if module in (layer.name, f"{layer.name}_bn"):
                value = value[:, :, None, None] if value.ndim == 2 else value
                state[f"{owner}.{2 * at + module.endswith('_bn')}.{field}"] = value
    return torch_samples.write(folder / "team.pt", state), spec


def boxes_of(spec: NetSpec, outputs: np.ndarray) -> np.ndarray:
    """Return the best cell's (x, y, w, h) in units of the frame, its six anchors averaged."""
    boxes = []
    for output in outputs:
        rows, columns, _ = output.shape
        cells = output.reshape(rows, columns, 6, 6).astype(float)
        row, column = np.unravel_index(cells[..., 4].sum(2).argmax(), (rows, columns))
        found = []
        for tx, ty, tw, th, *_ in cells[row, column]:
            x, y = column + 1 / (1 + math.exp(-tx)), row + 1 / (1 + math.exp(-ty))
            side = spec.head.anchor_pixels
            found.append(
                (x / columns, y / rows, side * math.exp(tw) / WIDTH, side * math.exp(th) / HEIGHT)
            )
        boxes.append(np.mean(found, 0))
    return np.array(boxes)


def iou(box: np.ndarray, truth: np.ndarray, size: tuple[int, int], more: int) -> float:
    """Return the overlap in pixels of the frame; sides are `more` pixels longer than max - min."""
    sides, areas = [], [1.0, 1.0]
    for axis, pixels in enumerate(size):
        ends = []
        for at, (centre, side) in enumerate((one[axis], one[2 + axis]) for one in (box, truth)):
            ends.append(((centre - side / 2) * pixels, (centre + side / 2) * pixels))
            areas[at] *= side * pixels + more
        (low, high), (first, last) = ends
        sides.append(max(min(high, last) - max(low, first) + more, 0))
    overlap = sides[0] * sides[1]
    return overlap / (sum(areas) - overlap)


def check(net: str, tmp_path: Path, frames: Path, capfd, stream: str = "auto") -> dict:
    """Check what the program prints of a checkpoint of `net`."""
    path, spec = checkpoint(tmp_path, net)
    variables = to_variables(spec, torch_file.load(path).tensors)
    graph, images = to_graph(spec, BITS, variables), dacsdc.load(frames, HEIGHT, WIDTH).images
    boxes = boxes_of(spec, execute(graph, images) * graph.output.scale)
    label_near(frames, boxes)
    words = ("--net", net, "--init", path, "--data", frames, "--cache", tmp_path / "cache", *GIVEN)
    words += ("--csim-frames", "2", "--stream", stream)
    assert main(PROGRAM, ["test", *map(str, words)]) == 0
    found = json.loads(capfd.readouterr().out)
    data = dacsdc.load(frames, HEIGHT, WIDTH)
    for name, more in (("iou", 0), ("iou_inclusive", 1)):
        each = [iou(*pair, SIZE, more) for pair in zip(boxes, data.boxes, strict=True)]
        # Boxes are float32 there.
        assert found[name]["integer"] == pytest.approx(np.mean(each), abs=1e-5)
        assert found[name]["csim"] == pytest.approx(np.mean(each[:2]), abs=1e-5)
        assert 0 <= found[name]["quant"] <= 1
    assert found["iou_inclusive"]["integer"] > found["iou"]["integer"] > 0.1
    expected = {"net": net, "quantiser": "contest", "bits": str(BITS), "frames": FRAMES}
    expected |= {"height": HEIGHT, "width": WIDTH, "csim_frames": 2, "csim_mismatches": 0}
    assert found.items() >= expected.items()
    assert found["codes_differing"] < found["codes"] / 100
    return found


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(run_context, "keep_compiled_programs", lambda cache: None)


@pytest.fixture
def without_compiler(monkeypatch, in_this_process):
    """The integer network in the place of the C++, which a slow test compiles."""

    def simulate(graph, images, frames_per_call):
        return CsimResult(execute(graph, images), 0.0, 0.0)

    monkeypatch.setattr(pretrained, "check_fits", lambda *_: None)
    monkeypatch.setattr(pretrained.dse, "optimise", lambda graph, *_: graph)
    monkeypatch.setattr(pretrained.hls, "emit", lambda design: design)
    monkeypatch.setattr(pretrained.csim, "run", simulate)


@pytest.mark.parametrize(
    "net", ["ultranet_bypass", pytest.param("ultranet", marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("without_compiler")
def test_the_numbers_of_a_team_s_network(net, tmp_path, frames, capfd):
    """Frames stay in their files: no more than a batch of them is in memory."""
    check(net, tmp_path, frames, capfd, stream="on")
    assert not list((tmp_path / "cache").glob("*/images.npy"))


@pytest.mark.parametrize(
    ("ratios", "start"),
    [
        ({"conv0": 1.2, "conv1": 0.9}, None),
        ({"conv0": 1.6, "conv1": 0.15, "conv2": 3.5}, "sums of layer 'conv1' vary 0.15 times"),
        ({"conv0": 40.0, "conv1": 0.0}, "sums of layer 'conv1' vary 0 times"),
        ({}, None),
    ],
)
def test_a_network_run_in_another_way_than_it_was_trained_is_warned_of(
    monkeypatch, tmp_path, frames, ratios, start
):
    path, _ = checkpoint(tmp_path, "ultranet")
    options = parse(PROGRAM, ["test", "--init", str(path), *GIVEN])
    monkeypatch.setattr(pretrained.evaluate, "variance_ratios", lambda *_: ratios)
    run = Run(options, options.resolved())
    warning = pretrained._warning(run, dacsdc.load(frames, HEIGHT, WIDTH))
    assert warning.startswith(start) if start else warning == ""


@pytest.mark.slow
@pytest.mark.csim
@pytest.mark.parametrize("net", PARTS)
@pytest.mark.usefixtures("in_this_process")
def test_the_c_of_a_team_s_network(net, tmp_path, frames, capfd):
    found = check(net, tmp_path, frames, capfd)
    assert found["csim_values"] == 2 * 36 * (HEIGHT // 16) * (WIDTH // 16)
