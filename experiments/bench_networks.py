# SPDX-License-Identifier: Apache-2.0
"""What the full-size networks take by the model, and how long one frame takes in C simulation."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from experiments.detection_options import PRESETS
from hw import cycles, dse, resources
from hw.dataflow import build
from hw.design import Design, DesignError
from hw.device import device
from hw.hls import csim, toolchain
from hw.ir import Graph
from mixq_jax import model
from mixq_jax.bits import FixedBits
from mixq_jax.export import to_graph
from mixq_jax.model import uniform_bits
from mixq_jax.nets import CLASSIFIERS, classifier, detector
from mixq_jax.norm import BatchStats
from mixq_jax.spec import NetSpec, conv_groups, infer_shapes

SIDE = 32  # of a classifier's images
RANDOM_BITS = (2, 9)  # range of the widths in C simulation
CANDIDATES = ("xczu3eg", "xczu7ev", "xczu9eg")  # the first that holds a random network takes it


@dataclass(frozen=True)
class Work:
    """What a frame costs at 4 bits on a device, by the model."""

    mmac: float
    weights: int
    interval_cycles: int
    fps: float
    dsp: int
    lut: int
    lut_low: int
    lut_high: int
    bram18: int


@dataclass(frozen=True)
class Simulated:
    """One frame through the C++ of a network of random widths, all integers compared."""

    bits: str
    device: str
    values: int
    mismatches: int
    compile_seconds: float
    run_seconds: float


def network(name: str) -> NetSpec:
    """Return a network of `NETS` or `CLASSIFIERS` at the size it was published for."""
    if name in CLASSIFIERS:
        return classifier(name, SIDE)
    size = PRESETS["paper"]
    return detector(name, size.height, size.width)


def macs_and_weights(spec: NetSpec) -> tuple[int, int]:
    """Return the multiply-accumulates of a frame and the weights of all convolutions."""
    shapes, macs, weights = infer_shapes(spec), 0, 0
    for layer in spec.convs:
        height, width, out_channels = shapes[layer.name]
        channels = shapes[layer.source][2]
        of_layer = layer.kernel**2 * channels // conv_groups(layer, channels) * out_channels
        macs, weights = macs + height * width * of_layer, weights + of_layer
    return macs, weights


def work(spec: NetSpec, part: str, clock_mhz: float) -> Work:
    """Return what `spec` takes at 4 bits everywhere (image and classifier: 8)."""
    design = dse.optimise(to_graph(spec, uniform_bits(spec, 4, 4)), device(part), clock_mhz)
    report, used = cycles.analyse(build(design), clock_mhz), resources.estimate(design).total
    macs, weights = macs_and_weights(spec)
    return Work(
        macs / 1e6,
        weights,
        report.interval_cycles,
        report.fps,
        used.dsp,
        used.lut,
        used.lut_low,
        used.lut_high,
        used.bram18,
    )


def simulate(spec: NetSpec, seed: int) -> Simulated:
    """Compare every integer of a random frame through a random network at random widths.

    Batch norms are as after training, so that multipliers of both signs and biases are at work.
    """
    rng = np.random.default_rng(seed)
    widths = (tuple(int(b) for b in rng.integers(*RANDOM_BITS, len(spec.convs))) for _ in "wa")
    bits = FixedBits(*map(_with_fixed(spec), widths, (0, 1)))
    graph = to_graph(spec, bits, random_variables(spec, rng))
    part, design = _fitted(graph)
    frame = rng.integers(0, 256, (1, spec.height, spec.width, spec.channels))
    found = csim.compare(graph, design, frame)
    return Simulated(
        str(bits),
        part,
        found.values,
        found.mismatches,
        found.result.seconds_compile,
        found.result.seconds_run,
    )


def random_variables(spec: NetSpec, rng: np.random.Generator) -> dict:
    """Return random weights, and batch norms such as training leaves: gammas of both signs."""
    variables = model.init(spec, jax.random.key(int(rng.integers(1 << 31))))
    params, stats = dict(variables["params"]), {}
    for name, old in variables["batch_stats"].items():
        size = old.mean.shape
        gamma = rng.uniform(0.5, 1.5, size) * rng.choice((-1, 1), size)
        params[f"{name}_gamma"] = _float32(gamma)
        params[f"{name}_beta"] = _float32(rng.normal(0, 0.3, size))
        mean, var = rng.normal(0, 0.3, size), rng.uniform(0.3, 2.0, size)
        stats[name] = BatchStats(_float32(mean), _float32(var))
    for layer in spec.convs:
        if layer.bias:
            params[f"{layer.name}_bias"] = _float32(rng.normal(0, 0.3, layer.out_channels))
    return {"params": params, "batch_stats": stats}


def _float32(values: np.ndarray) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def _with_fixed(spec: NetSpec):
    """Return a function that puts the widths of fixed layers into those of one operand."""
    return lambda widths, operand: tuple(
        width if fixed is None else fixed[operand]
        for width, fixed in zip(widths, spec.fixed_bits, strict=True)
    )


def _fitted(graph: Graph) -> tuple[str, Design]:
    """Return the smallest device of `CANDIDATES` that holds the network, and its design."""
    for part in CANDIDATES[:-1]:
        try:
            return part, dse.optimise(graph, device(part))
        except DesignError:
            continue
    return CANDIDATES[-1], dse.optimise(graph, device(CANDIDATES[-1]))


def measure(nets: Sequence[str], device: str, clock_mhz: float, csim: bool, seed: int) -> dict:
    """Return the figures of the networks as JSON values; `csim`: also simulate a frame of each.

    Raises DesignError if a network does not fit, ToolchainError if `csim` finds no compiler.
    """
    if csim:
        toolchain.find()
    specs = {name: network(name) for name in nets}
    found = {"device": device, "clock_mhz": clock_mhz, "seed": seed}
    found["work"] = {name: vars(work(spec, device, clock_mhz)) for name, spec in specs.items()}
    if csim:
        found["simulated"] = {name: vars(simulate(spec, seed)) for name, spec in specs.items()}
    return found


def table(record: dict) -> str:
    """Render a record as two tables in Markdown."""
    lines = [
        f"4 bits, {record['device']}, {record['clock_mhz']:g} MHz (model)",
        "",
        "| network | MMAC | weights | cycles a frame | frames a second | DSP | LUT (low to high) "
        "| BRAM18 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in record["work"].items():
        lines.append(
            f"| {name} | {one['mmac']:.1f} | {_count(one['weights'])} "
            f"| {_count(one['interval_cycles'])} | {_count(round(one['fps']))} | {one['dsp']} "
            f"| {_count(one['lut'])} ({_count(one['lut_low'])} to {_count(one['lut_high'])}) "
            f"| {one['bram18']} |"
        )
    if "simulated" in record:
        lines += [
            "",
            f"Random widths, one frame, seed {record['seed']} (C simulation); {record['cpu']}",
            "",
            "| network | widths (w/a) | device | integers compared | differ | compilation | run |",
            "|---|---|---|---|---|---|---|",
        ]
    for name, one in record.get("simulated", {}).items():
        lines.append(
            f"| {name} | {one['bits']} | {one['device']} | {_count(one['values'])} "
            f"| {one['mismatches']} | {one['compile_seconds']:.1f} s | {one['run_seconds']:.1f} s |"
        )
    return "\n".join(lines)


def _count(value: int) -> str:
    return f"{value:,}".replace(",", " ")
