# SPDX-License-Identifier: Apache-2.0
"""All integers of all layers of the networks: Flax, executors and C++ agree at random widths."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hw.design import Design
from hw.execute import run
from hw.hls import csim, emit
from hw.hls.beats import pack_frames, unpack_results
from hw.hls.taps import decode_taps
from hw.ir import Graph
from hw.lower import lower
from hw.sim import simulate
from hw.sim.actor import network
from mixq_jax import model
from mixq_jax.export import integer_bits, to_graph
from mixq_jax.integer import executor
from mixq_jax.nets import CLASSIFIERS, NETS, classifier, detector
from mixq_jax.nets.baselines import QUANTISERS
from mixq_jax.norm import EPS, BatchStats
from mixq_jax.spec import NetSpec
from tests.hw.hls.networks import draw_designs
from tests.network_samples import random_bits, random_images, random_variables
from tests.strategies import chain_design

NETWORKS = (*NETS, *CLASSIFIERS)
FAMILIES = tuple(QUANTISERS.values())
REST = [name for name in NETWORKS if name != "vgg_tiny"]
MOST_MULTIPLIERS = 48  # of a random array: enough for every kind of word, quick to compile


def small(name: str) -> NetSpec:
    """A quarter or an eighth of the channels on the smallest images that show every layer."""
    if name in CLASSIFIERS:
        return classifier(name, 8, slim=8)
    return detector(name, 16, 32, slim=4)


def reduced(name: str) -> NetSpec:
    """All channels on images of a few rows."""
    return classifier(name, 16) if name in CLASSIFIERS else detector(name, 32, 64)


def full(name: str) -> NetSpec:
    return classifier(name, 32) if name in CLASSIFIERS else detector(name, 160, 320)


def flax_integers(spec: NetSpec, graph: Graph, integer, variables: Mapping, images: np.ndarray):
    """Yield (node, integers) of all codes that convolutions read and of all their sums."""
    apply = jax.jit(
        lambda x: model.Network(spec).apply(variables, x, integer, False, mutable=["intermediates"])
    )
    seen = apply(images.astype(np.float32))[1]["intermediates"]
    for layer in spec.convs:
        node = graph[layer.name]
        yield node.source, np.asarray(seen[f"{layer.name}_input"][0])
        bias = 0 if node.bias is None else node.bias
        yield node.name, np.asarray(seen[f"{layer.name}_acc"][0]).astype(np.int64) + bias


def check_executors(spec: NetSpec, seed: int) -> None:
    """Check the Flax network and the jitted executor against hw.execute at random widths."""
    bits, variables = random_bits(spec, seed), random_variables(spec, seed)
    graph, images = to_graph(spec, bits, variables), random_images(spec, seed)
    expected = run(graph, images)
    integer = integer_bits(spec, bits, variables)
    for name, values in flax_integers(spec, graph, integer, variables, images):
        assert np.array_equal(values, expected[name]), (name, bits)
        assert len(np.unique(values)) > 2, f"{name} does not vary"
    got = executor(graph)(jnp.asarray(images, jnp.int32))
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(got[name], values), (name, bits)


@pytest.mark.parametrize(  # tests of export and executor have smaller nets of every kind of layer
    "name", ["vgg_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in REST)]
)
def test_executors_of_small_networks(name):
    check_executors(small(name), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3 * len(FAMILIES)))
@pytest.mark.parametrize("name", NETWORKS)
def test_executors_of_reduced_networks(name, seed):
    quant = FAMILIES[seed % len(FAMILIES)]
    check_executors(replace(reduced(name), quant=quant), seed)


def dyadic_variables(spec: NetSpec, seed: int) -> dict:
    """Return random variables whose batch norms multiply by powers of two and add 1/64ths."""
    variables, rng = random_variables(spec, seed), np.random.default_rng(seed)
    params, stats = dict(variables["params"]), {}
    one = np.float32(1) - np.float32(EPS)  # the variance at which the deviation is exactly one
    while np.float32(one + np.float32(EPS)) < 1:
        one = np.nextafter(one, np.float32(2))
    for name, old in variables["batch_stats"].items():
        size = old.mean.shape
        for field, values in (
            ("gamma", 2.0 ** rng.integers(-3, 0, size) * rng.choice((-1, 1), size)),
            ("beta", rng.integers(0, 48, size) / 64),
        ):
            params[f"{name}_{field}"] = values.astype(np.float32)
        # A mean would be divided by the deviation, which is one in float32 and not in float64.
        stats[name] = BatchStats(np.zeros(size, np.float32), np.full(size, one, np.float32))
    return {"params": params, "batch_stats": stats}


@pytest.mark.parametrize(
    "name", ["vgg_tiny", *(pytest.param(name, marks=pytest.mark.slow) for name in REST)]
)
def test_quantised_training_is_the_integers_where_every_factor_is_a_power_of_two(name):
    """Not counted but equal: all codes and sums of the network as it is trained, ties included."""
    spec = replace(small(name), quant=QUANTISERS["dorefa"])
    bits, variables = random_bits(spec, 3), dyadic_variables(spec, 3)
    graph, images = to_graph(spec, bits, variables), random_images(spec, 3)
    expected = run(graph, images)
    for node, values in flax_integers(spec, graph, bits, variables, images):
        assert np.array_equal(values, expected[node]), (node, bits)
        assert len(np.unique(values)) > 2, f"{node} does not vary"


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_executors_of_full_networks(name):
    check_executors(full(name), seed=1)


def random_designs(spec: NetSpec, seed: int, count: int) -> Iterator[Design]:
    """Yield designs of a network at random widths, each layer mapped at random."""
    graph = lower(to_graph(spec, random_bits(spec, seed), random_variables(spec, seed)))
    strategy = chain_design(st.just(graph), MOST_MULTIPLIERS)
    yield from draw_designs(strategy, count + 1)[1:]  # the first is one multiplier a layer


def check_c(design: Design, frames: np.ndarray, folder: Path) -> None:
    """Check integers of all nodes, words and iterations of the C++ of `design`."""
    plan = emit(design)
    first, *_, last = plan.pipeline.processes
    program = csim.compile_plan(plan, folder, ("MIXQ_TAP", "MIXQ_COUNT"))
    beats = csim.run_binary([str(program)], [pack_frames(first, frames)], [folder / "run"])
    got = decode_taps(plan.pipeline, design.graph, folder / "run")
    got[design.graph.output.name] = unpack_results(last, beats)
    expected = run(design.graph, frames)
    assert got.keys() == expected.keys()
    for name, values in expected.items():
        assert np.array_equal(got[name], values), name
    check_counts(design, csim.read_counts(folder / "run"), len(frames))


def check_counts(design: Design, counts: csim.Counts, frames: int) -> None:
    """Check the words and iterations that the C++ counted against those of the simulator."""
    pipeline = emit(design).pipeline
    model_of = network(pipeline, frames)
    words = {fifo.name: fifo.words for fifo in model_of.fifos}
    assert {name: counts.streams[name] for name in words} == words
    assert counts.streams.keys() - words.keys() == {"image_in", "result_out"}
    report = simulate(pipeline, frames, clock_mhz=design.clock_mhz)
    assert counts.processes == {process.name: process.busy_cycles for process in report.processes}


@pytest.mark.csim
def test_c_of_a_small_network(tmp_path):
    spec = small("vgg_tiny")
    (design,) = random_designs(spec, seed=2, count=1)
    check_c(design, random_images(spec, 2).astype(int), tmp_path)


@pytest.mark.slow
@pytest.mark.csim
@pytest.mark.parametrize("seed", range(len(FAMILIES)))
@pytest.mark.parametrize("name", NETWORKS)
def test_c_of_reduced_networks(name, seed, tmp_path):
    spec = replace(reduced(name), quant=FAMILIES[seed])
    (design,) = random_designs(spec, seed, count=1)
    check_c(design, random_images(spec, seed).astype(int), tmp_path)


@pytest.mark.slow
@pytest.mark.csim
@pytest.mark.parametrize("name", NETWORKS)
def test_c_of_full_networks(name, tmp_path):
    spec = full(name)
    (design,) = random_designs(spec, seed=5, count=1)
    check_c(design, random_images(spec, 5).astype(int), tmp_path)
