# SPDX-License-Identifier: Apache-2.0
"""Predictions in batches equal predictions of single frames; networks differ where counted."""

import jax
import numpy as np
import pytest

from hw.execute import execute, run
from mixq_jax import detect, evaluate, model
from mixq_jax.bits import FixedBits
from mixq_jax.data.dacsdc import Dataset
from mixq_jax.export import integer_bits, to_graph

BITS = FixedBits((5, 4, 6), (8, 4, 5))


@pytest.fixture(scope="module")
def case(small_spec, random_variables):
    """Return (spec, variables, graph, data of 5 frames)."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 9, 13, 3), np.uint8)
    boxes = rng.uniform(0.2, 0.6, (5, 4)).astype(np.float32)
    data = Dataset(images, boxes, np.ones(5, np.float32), tuple("abcde"))
    variables = random_variables(small_spec, 0)
    return small_spec, variables, to_graph(small_spec, BITS, variables), data


def test_detections_do_not_depend_on_the_batch(case):
    spec, variables, _, data = case
    predict = evaluate.predictor(spec, variables, BITS)
    whole, parts = (evaluate.evaluated(spec, predict, data, batch) for batch in (5, 2))
    for field in ("boxes", "confidence", "iou"):
        np.testing.assert_allclose(getattr(whole, field), getattr(parts, field), rtol=1e-5)
    assert whole.boxes.shape == (5, 4)
    np.testing.assert_allclose(whole.iou, detect.iou(whole.boxes, data.boxes), rtol=1e-6)
    assert whole.score == pytest.approx(whole.iou.mean())


def test_the_integer_network_is_the_graph_times_its_scale(case):
    *_, graph, data = case
    got = evaluate.integer_predictor(graph)(data.images)
    np.testing.assert_allclose(got, execute(graph, data.images) * graph.output.scale, rtol=1e-6)
    assert got.dtype == np.float32


def test_constant_box_is_centred_with_the_median_size(case):
    *_, data = case
    sizes = np.median(data.boxes[:, 2:], 0)
    expected = [
        float(detect.iou(np.array([0.5, 0.5, *sizes], np.float32), box)) for box in data.boxes
    ]
    assert evaluate.constant_box_iou(data, data) == pytest.approx(np.mean(expected), rel=1e-5)


def test_differing_codes_are_counted(case):
    """Against codes taken from the graph and from the quantised network one by one."""
    spec, variables, graph, data = case
    integer = integer_bits(spec, BITS, variables)
    found = evaluate.code_differences(spec, variables, BITS, integer, data.images)
    network, values = model.Network(spec), run(graph, data.images)

    @jax.jit
    def forward(x):
        return network.apply(variables, x, BITS, False, mutable=["intermediates"])[1]

    seen = forward(data.images.astype(np.float32))["intermediates"]
    for layer in spec.convs:
        codes = values[graph[layer.name].source]
        expected = int((np.asarray(seen[f"{layer.name}_input"][0]) != codes).sum())
        assert found[layer.name] == (expected, codes.size)
    assert found["conv0"][0] == 0  # the image quantiser is exact
    assert all(differing <= 0.02 * total for differing, total in found.values())


def test_recalibration_forgets_the_old_statistics(case, random_variables):
    """From two starts the statistics meet; they are those of the data at these widths."""
    spec, variables, graph, data = case
    other = {**variables, "batch_stats": random_variables(spec, 9)["batch_stats"]}
    first, second = (
        evaluate.recalibrated(spec, start, BITS, data, batches=60) for start in (variables, other)
    )
    for a, b in zip(
        jax.tree.leaves(first["batch_stats"]), jax.tree.leaves(second["batch_stats"]), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0.01, atol=0.005)
    for name, values in variables["params"].items():
        assert first["params"][name] is values
    kernel = graph["conv0"].weights * 0.193 * variables["params"]["conv0_kernel"].std(ddof=1)
    inside = np.pad(data.images / 256, ((0, 0), (1, 1), (1, 1), (0, 0)))
    mean = sum(
        np.einsum("nhwc,cm->m", inside[:, dy : dy + 9, dx : dx + 13], kernel[dy, dx])
        for dy, dx in np.ndindex(3, 3)
    )
    # Batches of 32 show the 5 frames 6 or 7 times each.
    found = first["batch_stats"]["conv0"].mean
    np.testing.assert_allclose(found, mean / (len(data.images) * 9 * 13), atol=0.01)


def test_differences_show_another_network(case, random_variables):
    spec, variables, _, data = case
    other = integer_bits(spec, BITS, random_variables(spec, 1))
    found = evaluate.code_differences(spec, variables, BITS, other, data.images)
    assert found["conv1"][0] > 0.2 * found["conv1"][1]


def test_variances_tell_whether_a_network_runs_as_it_was_trained(case):
    """Statistics gathered at BITS fit BITS; weights four times as large vary sixteen times."""
    spec, variables, _, data = case
    fitted = evaluate.recalibrated(spec, variables, BITS, data.rows(slice(5)), 60)
    ratios = evaluate.variance_ratios(spec, fitted, BITS, data.images)
    assert set(ratios) == set(variables["batch_stats"])
    for name, ratio in ratios.items():
        assert ratio == pytest.approx(1, abs=0.3), name  # unbiased variances, random batches
    larger = {name: 4 * x if name.endswith("kernel") else x for name, x in fitted["params"].items()}
    other = evaluate.variance_ratios(spec, fitted | {"params": larger}, BITS, data.images)
    first = next(iter(ratios))
    assert other[first] == pytest.approx(16 * ratios[first], rel=1e-3)
