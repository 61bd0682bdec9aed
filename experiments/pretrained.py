# SPDX-License-Identifier: Apache-2.0
"""`test --init`: a network that others have trained, measured as it is, also in C simulation."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from experiments import init_file
from experiments.detection_options import DetectionOptions
from experiments.options import OptionError, RunOptions
from experiments.progress import bar
from experiments.run_context import Run
from hw import dse, hls
from hw.hls import csim
from hw.ir import Graph
from mixq_jax import evaluate, export
from mixq_jax.bits import FloatBits
from mixq_jax.data import dacsdc
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.data.labelled import Labelled
from mixq_jax.evaluate import Decisions, Detections
from mixq_jax.integer import executor
from mixq_jax.task import score_name

HEIGHT, WIDTH = 160, 320  # what all published networks of the contest were trained at
FRAMES_PER_CALL = 10  # in C simulation, where FIFOs are unbounded
COMPARED_FRAMES = 20  # of which every code of every layer is compared


def run_pretrained(options: RunOptions) -> dict:
    """Return the score of the quantised, the integer and the C-simulated network on all frames.

    Detectors: the mean IoU by both conventions, sides of xmax - xmin and of xmax - xmin + 1
    ("inclusive"). Classifiers: the accuracy on the test images, of which the preset's few are
    simulated. With --unquantised the float network's alone.
    """
    run = _prepare(options)
    spec, bits, variables = run.spec, run.trained_bits(), run.init_variables
    data = _frames(run)
    result = {
        "net": spec.name,
        "quantiser": run.quantiser,
        "bits": "float" if isinstance(bits, FloatBits) else str(bits),
        "frames": len(data.images),
    }
    if isinstance(bits, FloatBits):
        with bar("test", 1) as advance:
            predict = evaluate.predictor(spec, variables, bits)
            found = {"float": evaluate.evaluated(spec, predict, data)}
            advance(1)
        return result | _scores(run, data, found)
    found, compared = _quantised(run, data)
    return result | _scores(run, data, found) | compared


def _prepare(options: RunOptions) -> Run:
    """Return the run, checked before data are loaded."""
    init_file.check_test(options)
    preset = replace(options.resolved(), train_steps=0)
    if isinstance(options, DetectionOptions):
        if options.data is None:
            raise OptionError("test --init: give the frames to test on with --data")
        preset = replace(preset, height=HEIGHT, width=WIDTH)
    run = Run(options, preset)
    run.check(simulates=not options.unquantised)
    return run


def _frames(run: Run) -> Dataset | Labelled:
    """Return all frames of a folder, whatever their split; of a set of classes its test images."""
    if not isinstance(run.options, DetectionOptions):
        return run.test_data
    with bar("load frames") as advance:
        return dacsdc.load(run.options.data, HEIGHT, WIDTH, progress=advance)


def _quantised(
    run: Run, data: Dataset | Labelled
) -> tuple[dict[str, Detections | Decisions], dict[str, int]]:
    """Return what the networks answer, and how many codes and simulated integers differ."""
    spec, bits = run.spec, run.chosen_bits()
    graph = export.to_graph(spec, bits, run.init_variables)
    name, scale, found = score_name(spec), graph.output.scale, {}
    with bar("test", 4) as advance:
        predict = evaluate.predictor(spec, run.init_variables, bits)
        found["quant"] = evaluate.evaluated(spec, predict, data)
        advance(1, note=f"quantised {name} {found['quant'].score:.4f}")
        integers = _integers(graph, data)
        found["integer"] = evaluate.answers(spec, integers * scale, data)
        advance(2, note=f"integer {name} {found['integer'].score:.4f}")
        codes = _codes(run, data)
        advance(3, note="compiling and running the C++")
        images = data.images[: _simulated_frames(run, len(data.images))]
        plan = hls.emit(dse.optimise(graph, run.device, run.options.clock_mhz))
        simulated = csim.run(plan, np.asarray(images), FRAMES_PER_CALL).outputs
        differing = int((simulated != integers[: len(images)]).sum())
        if len(images) == len(data.images):
            found["csim"] = evaluate.answers(spec, simulated * scale, data)
        advance(4, note=f"C simulation: {differing} of {simulated.size} integers differ")
    return found, codes | {
        "csim_frames": len(images),
        "csim_values": simulated.size,
        "csim_mismatches": differing,
    }


def _codes(run: Run, data: Dataset | Labelled) -> dict[str, int]:
    """Return how many codes of the quantised and the integer network differ, on a few frames."""
    spec, bits, variables = run.spec, run.chosen_bits(), run.init_variables
    integer, images = export.integer_bits(spec, bits, variables), data.images[:COMPARED_FRAMES]
    pairs = evaluate.code_differences(spec, variables, bits, integer, images).values()
    return {
        "codes_frames": len(images),
        "codes": sum(compared for _, compared in pairs),
        "codes_differing": sum(differing for differing, _ in pairs),
    }


def _simulated_frames(run: Run, frames: int) -> int:
    """Return how many frames are simulated: all, but of thousands of images the preset's few."""
    return frames if isinstance(run.options, DetectionOptions) else run.preset.csim_frames


def _integers(graph: Graph, data: Dataset | Labelled) -> np.ndarray:
    """Return what the integer network gives for all images."""
    run = executor(graph)
    values = evaluate.outputs(
        lambda images: run(jnp.asarray(images, jnp.int32))[graph.output.name], data
    )
    return values.astype(np.int64)


def _scores(run: Run, data: Dataset | Labelled, found: dict[str, Detections | Decisions]) -> dict:
    """Return {score: {network: value}}, for detectors by both conventions."""
    scores = {score_name(run.spec): {name: one.score for name, one in found.items()}}
    if isinstance(data, Labelled):
        return scores
    sizes = [(frame.width, frame.height) for frame in dacsdc.scan(run.options.data)]
    inclusive = {
        name: evaluate.inclusive_iou(one.boxes, data.boxes, np.array(sizes, np.float32))
        for name, one in found.items()
    }
    return scores | {"iou_inclusive": {key: float(one.mean()) for key, one in inclusive.items()}}
