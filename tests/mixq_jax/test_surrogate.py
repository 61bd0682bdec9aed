# SPDX-License-Identifier: Apache-2.0
"""The differentiable cost is the expectation of the hardware model's integers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hw.device import device
from hw.resources import SEARCHED_BITS, CostTable, cost_table, work
from mixq_jax.bits import WIDTHS, FixedBits, SoftBits, one_hot
from mixq_jax.export import to_graph
from mixq_jax.model import uniform_bits
from mixq_jax.nets import NETS, detector, vgg_tiny
from mixq_jax.surrogate import expected_cost, normalised
from tests.network_samples import random_bits

pytestmark = pytest.mark.usefixtures("strict")

DEVICE = device("xczu3eg")
NETWORKS = (*NETS, "vgg_tiny")


@pytest.fixture(scope="module")
def table(small_spec) -> CostTable:
    return cost_table(to_graph(small_spec, FixedBits((4,) * 3, (4,) * 3)), DEVICE)


def soft(seed: int) -> SoftBits:
    rng = np.random.default_rng(seed)
    return SoftBits(*(jnp.asarray(rng.dirichlet(np.ones(7), 3), jnp.float32) for _ in range(2)))


def test_the_table_and_the_search_agree_on_the_widths(table):
    assert table.w_bits == table.a_bits == SEARCHED_BITS == WIDTHS


def test_one_hot_cost_is_the_integer_model_exactly(small_spec, table):
    """All integers are below 2^24, so float32 holds them and their sums."""
    values = jnp.asarray(table.values, jnp.float32)
    assert table.values.sum(0).max() < 1 << 24
    rng = np.random.default_rng(0)
    cost = jax.jit(lambda bits: expected_cost(values, bits))
    for _ in range(8):
        bits = FixedBits(*(tuple(rng.choice(WIDTHS, 3).tolist()) for _ in range(2)))
        model = work(to_graph(small_spec, bits), DEVICE)
        assert cost(one_hot(bits)).tolist() == [model[name] for name in table.resources]


@pytest.mark.parametrize(
    "name", ["ultranet", *(pytest.param(n, marks=pytest.mark.slow) for n in NETWORKS[1:])]
)
def test_one_hot_cost_of_the_full_networks_is_the_integer_model(name):
    """Sums beyond 2^24 are rounded once a layer: a unit of the last place each."""
    spec = vgg_tiny() if name == "vgg_tiny" else detector(name, 160, 320)
    table = cost_table(to_graph(spec, uniform_bits(spec, 4, 4)), DEVICE)
    for seed in range(4):
        bits = random_bits(spec, seed)
        got = expected_cost(jnp.asarray(table.values, jnp.float32), one_hot(bits))
        costs = work(to_graph(spec, bits), DEVICE)
        expected = np.array([costs[name] for name in table.resources])
        tolerance = len(spec.convs) * 2.0**-24 * expected
        assert (np.abs(np.asarray(got, np.float64) - expected) <= tolerance).all()


def test_the_table_does_not_depend_on_the_graphs_own_bits(small_spec, table):
    other = cost_table(to_graph(small_spec, FixedBits((8, 2, 5), (3, 8, 2))), DEVICE)
    assert np.array_equal(other.values, table.values)


def test_expectation_equals_a_sum_over_all_pairs(table):
    bits = soft(0)
    expected = np.zeros(len(table.resources))
    for layer, i, j in np.ndindex(3, 7, 7):
        weight = float(bits.w[layer, i]) * float(bits.a[layer, j])
        expected += weight * table.values[layer, i, j]
    got = expected_cost(jnp.asarray(table.values, jnp.float32), bits)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_gradient_equals_finite_differences(table):
    """The cost is linear in each operand, so central differences are exact up to rounding."""
    values = jnp.asarray(normalised(table, 1000))
    bits = soft(1)
    gradient = jax.jacobian(lambda b: expected_cost(values, b))(bits)
    exact = np.asarray(values, np.float64)
    for operand, slope in enumerate(gradient):
        for layer, i in np.ndindex(3, 7):
            changed = [np.asarray(b, np.float64) for b in bits]
            costs = []
            for delta in (0.5, -0.5):
                changed[operand] = np.asarray(bits[operand], np.float64).copy()
                changed[operand][layer, i] += delta
                costs.append(np.einsum("li,lj,lijr->r", *changed, exact))
            difference = costs[0] - costs[1]
            np.testing.assert_allclose(slope[:, layer, i], difference, rtol=1e-5)


def test_normalised_table_counts_8x8_products_of_the_first_layer(small_spec, table):
    """Where a DSP does one product a cycle, the first layer costs 64 (and its row ends)."""
    macs = 9 * 13 * 3 * 4 * 9
    scaled = normalised(table, macs)
    assert scaled.dtype == jnp.float32
    np.testing.assert_allclose(scaled, table.values * 64 / macs, rtol=1e-6)
    bitops = table.resources.index("bitops")
    assert float(scaled[0, -1, -1, bitops]) == pytest.approx(64 * 8 * 8)
