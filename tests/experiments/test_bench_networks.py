# SPDX-License-Identifier: Apache-2.0
"""The benchmark of full-size networks: work, devices, the tables."""

import numpy as np
import pytest

from experiments import bench_networks
from experiments.bench import NETWORKS, main
from hw.design import DesignError
from hw.ir import Requant
from mixq_jax.bits import WIDTHS
from mixq_jax.export import to_graph
from mixq_jax.model import uniform_bits
from mixq_jax.nets import CLASSIFIERS, classifier


def test_networks_have_their_published_size():
    specs = {name: bench_networks.network(name) for name in NETWORKS}
    for name, spec in specs.items():
        size = (32, 32) if name in CLASSIFIERS else (160, 320)
        assert (spec.height, spec.width) == size
    macs, weights = bench_networks.macs_and_weights(specs["ultranet"])
    assert (macs, weights) == (199_526_400, 210_096)


def test_a_network_takes_the_smallest_device_that_holds_it(monkeypatch):
    refused = []

    def optimise(graph, part):
        if part.name in refused:
            raise DesignError("too small")
        return f"{graph} on {part.name}"

    monkeypatch.setattr(bench_networks.dse, "optimise", optimise)
    assert bench_networks._fitted("net") == ("xczu3eg", "net on xczu3eg")
    refused.append("xczu3eg")
    assert bench_networks._fitted("net") == ("xczu7ev", "net on xczu7ev")
    refused.extend(bench_networks.CANDIDATES)
    with pytest.raises(DesignError, match="too small"):
        bench_networks._fitted("net")


def test_random_networks_have_multipliers_of_both_signs_and_biases():
    spec = classifier("resnet8", 8, slim=8)
    variables = bench_networks.random_variables(spec, np.random.default_rng(0))
    graph = to_graph(spec, uniform_bits(spec, 2, 3), variables)
    signs = [np.sign(node.mul).tolist() for node in graph.of_type(Requant)]
    assert {sign for row in signs for sign in row} == {-1, 1}
    assert all(np.any(node.bias != 0) for node in graph.of_type(Requant))
    assert np.any(variables["params"][f"{spec.convs[-1].name}_bias"] != 0)
    assert (WIDTHS[0], WIDTHS[-1] + 1) == bench_networks.RANDOM_BITS


@pytest.mark.slow
@pytest.mark.csim
def test_a_frame_is_simulated_and_told(monkeypatch, capsys):
    """The whole command on a reduced network: fixed widths stay, nothing differs."""
    small = classifier("vgg_tiny", 8, slim=8)
    monkeypatch.setattr(bench_networks, "network", lambda name: small)
    assert main(["networks", "--nets", "vgg_tiny", "--csim"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 bits, xczu3eg, 250 MHz (model)"
    macs, weights = bench_networks.macs_and_weights(small)
    assert lines[4].startswith(f"| vgg_tiny | {macs / 1e6:.1f} | {weights:,} |".replace(",", " "))
    row = [cell.strip() for cell in lines[10].strip("|").split("|")]
    assert row[0] == "vgg_tiny"
    assert row[1].split("/")[0].strip()[-1] == "8"
    assert row[4] == "0"


def test_a_device_that_is_too_small_is_one_line(capsys):
    assert main(["networks", "--nets", "vgg_tiny", "--device", "xc7z020"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: 'vgg_tiny' on xc7z020: dsp 220, ")
    assert told.err.count("\n") == 1
