# SPDX-License-Identifier: Apache-2.0
"""`test --init`: a network that others have trained, measured as it is, also in C simulation."""

import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from experiments import init_file
from experiments.data import load_split
from experiments.detection_options import DetectionOptions
from experiments.hardware import check_fits
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

CSIM_FRAMES = 100  # that are simulated unless --csim-frames says otherwise
FRAMES_PER_CALL = 10  # in C simulation, where FIFOs are unbounded
COMPARED_FRAMES = 20  # of which every code of every layer is compared
# Of what sums vary by and what batch norms remember, or its reciprocal: on the contest's sample
# frames 1.2 at most for the winner's network of 2020, 6.5 for the same one run in float.
SUSPECT_RATIO = 3.0


def run_pretrained(options: RunOptions) -> dict:
    """Return the score of the quantised and the integer network on all frames.

    And of the C-simulated one on the first --csim-frames. Detectors: the mean IoU by both
    conventions, sides of xmax - xmin and of xmax - xmin + 1 ("inclusive"). Classifiers: the
    accuracy on the test images. With --unquantised the float network's alone.
    """
    run = _prepare(options)
    spec, bits, variables = run.spec, run.trained_bits(), run.init_variables
    data = _frames(run)
    result = {
        "net": spec.name,
        "height": spec.height,
        "width": spec.width,
        "quantiser": run.quantiser,
        "bits": "float" if isinstance(bits, FloatBits) else str(bits),
        "frames": len(data.images),
    }
    if note := getattr(data, "note", ""):
        result["note"] = note
    if warning := _warning(run, data):
        result["warning"] = warning
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
    if isinstance(options, DetectionOptions) and options.data is None:
        raise OptionError("test --init: give the frames to test on with --data")
    run = Run(options, preset)
    run.check(simulates=not options.unquantised)
    if not options.unquantised:
        check_fits(run, ("export",))
    return run


def _warning(run: Run, data: Dataset | Labelled) -> str:
    """Return what tells that the network was trained in another way than it is run, or ""."""
    images = data.head(COMPARED_FRAMES).images
    ratios = evaluate.variance_ratios(run.spec, run.init_variables, run.trained_bits(), images)
    layer = max(ratios, key=lambda name: abs(math.log(max(ratios[name], 1e-9))), default=None)
    if layer is None or 1 / SUSPECT_RATIO < ratios[layer] < SUSPECT_RATIO:
        return ""
    return (
        f"sums of layer '{layer}' vary {ratios[layer]:.2g} times as much as its batch norm "
        "remembers: trained in other number formats (--quantiser, --unquantised), at other widths "
        "(--wbits, --abits) or on other images?"
    )


def _frames(run: Run) -> Dataset | Labelled:
    """Return all frames of a folder, whatever their split; of a set of classes its test images."""
    if not isinstance(run.options, DetectionOptions):
        return run.test_data
    return load_split(run.options, run.preset, "all")


def _quantised(
    run: Run, data: Dataset | Labelled
) -> tuple[dict[str, Detections | Decisions], dict[str, int]]:
    """Return what the networks answer, and how many codes and simulated integers differ."""
    spec, bits = run.spec, run.chosen_bits()
    graph = export.to_graph(spec, bits, run.init_variables)
    name, found = score_name(spec), {}
    with bar("test", 4) as advance:
        predict = evaluate.predictor(spec, run.init_variables, bits)
        found["quant"] = evaluate.evaluated(spec, predict, data)
        advance(1, note=f"quantised {name} {found['quant'].score:.4f}")
        found["integer"] = evaluate.evaluated(spec, evaluate.integer_predictor(graph), data)
        advance(2, note=f"integer {name} {found['integer'].score:.4f}")
        codes = _codes(run, data)
        advance(3, note="compiling and running the C++")
        few = data.head(run.options.csim_frames or CSIM_FRAMES)
        plan = hls.emit(dse.optimise(graph, run.device, run.options.clock_mhz))
        simulated = csim.run(plan, np.asarray(few.images), FRAMES_PER_CALL).outputs
        differing = int((simulated != _integers(graph, few.images)).sum())
        found["csim"] = evaluate.answers(spec, simulated * graph.output.scale, few)
        advance(4, note=f"C simulation: {differing} of {simulated.size} integers differ")
    return found, codes | {
        "csim_frames": len(few.images),
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


def _integers(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Return what the integer network gives for the simulated images."""
    run = executor(graph)
    starts = range(0, len(images), FRAMES_PER_CALL)
    parts = [run(jnp.asarray(images[at : at + FRAMES_PER_CALL], jnp.int32)) for at in starts]
    return np.concatenate([np.asarray(part[graph.output.name]) for part in parts])


def _scores(run: Run, data: Dataset | Labelled, found: dict[str, Detections | Decisions]) -> dict:
    """Return {score: {network: value}}, for detectors by both conventions."""
    scores = {score_name(run.spec): {name: one.score for name, one in found.items()}}
    if isinstance(data, Labelled):
        return scores
    frames = dacsdc.scan(run.options.data)
    sizes = np.array([(frame.width, frame.height) for frame in frames], np.float32)
    inclusive = {}
    for name, one in found.items():
        count = len(one.boxes)  # of the simulated network, fewer
        inclusive[name] = evaluate.inclusive_iou(one.boxes, data.boxes[:count], sizes[:count])
    return scores | {"iou_inclusive": {key: float(one.mean()) for key, one in inclusive.items()}}
