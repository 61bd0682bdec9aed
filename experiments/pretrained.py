# SPDX-License-Identifier: Apache-2.0
"""`test --init`: a network that others have trained, measured on frames, also in C simulation."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from experiments.detection_options import DetectionOptions
from experiments.options import OptionError, RunOptions
from experiments.progress import bar
from experiments.run_context import Run
from hw import dse, hls
from hw.device import Device
from hw.hls import csim
from hw.ir import Graph
from mixq_jax import evaluate, export, pretrained
from mixq_jax.data import dacsdc
from mixq_jax.integer import executor

HEIGHT, WIDTH = 160, 320  # what all published networks of the contest were trained at
FRAMES_PER_CALL = 10  # in C simulation, where FIFOs are unbounded


def run_pretrained(options: RunOptions) -> dict:
    """Return the mean IoU of the quantised, the integer and the C-simulated network on all frames.

    By both conventions: sides of xmax - xmin, and of xmax - xmin + 1 ("inclusive").
    """
    if not isinstance(options, DetectionOptions):
        raise OptionError("test --init: measures detectors; for others give --init to `train`")
    if options.data is None:
        raise OptionError("--init: give the frames to test on with --data")
    run = Run(options, replace(options.resolved(), height=HEIGHT, width=WIDTH))
    run.check(simulates=True)
    spec, bits = run.spec, run.chosen_bits()
    variables = pretrained.to_variables(spec, run.init_file.tensors)
    with bar("load frames") as advance:
        data = dacsdc.load(options.data, HEIGHT, WIDTH, progress=advance)
    graph = export.to_graph(spec, bits, variables)
    found = {}
    with bar("test", 3) as advance:
        quantised = evaluate.predictor(spec, variables, bits)
        found["quant"] = evaluate.detections(spec, quantised, data)
        advance(1, note=f"quantised IoU {found['quant'].score:.4f}")
        integers = _integers(graph, data.images)
        found["integer"] = evaluate.detections_of(spec, integers * graph.output.scale, data)
        advance(2, note=f"integer IoU {found['integer'].score:.4f}")
        simulated = _simulated(graph, run.device, options.clock_mhz, data.images)
        found["csim"] = evaluate.detections_of(spec, simulated * graph.output.scale, data)
        advance(3, note=f"C simulation IoU {found['csim'].score:.4f}")
    sizes = np.array([(s.width, s.height) for s in dacsdc.scan(options.data)], np.float32)
    inclusive = {
        name: evaluate.inclusive_iou(one.boxes, data.boxes, sizes) for name, one in found.items()
    }
    return {
        "net": spec.name,
        "quantiser": run.quantiser,
        "bits": str(bits),
        "frames": len(data.images),
        "iou": {name: one.score for name, one in found.items()},
        "iou_inclusive": {name: float(values.mean()) for name, values in inclusive.items()},
        "csim_values": simulated.size,
        "csim_mismatches": int((simulated != integers).sum()),
    }


def _integers(graph: Graph, images: np.ndarray) -> np.ndarray:
    """Return what the integer network gives for all images."""
    run = executor(graph)
    parts = [images[at : at + FRAMES_PER_CALL] for at in range(0, len(images), FRAMES_PER_CALL)]
    results = [np.asarray(run(jnp.asarray(part, jnp.int32))[graph.output.name]) for part in parts]
    return np.concatenate(results).astype(np.int64)


def _simulated(graph: Graph, part: Device, clock_mhz: float, images: np.ndarray) -> np.ndarray:
    """Return the integers that leave the C simulation of the accelerator."""
    plan = hls.emit(dse.optimise(graph, part, clock_mhz))
    return csim.run(plan, np.asarray(images), FRAMES_PER_CALL).outputs
