# SPDX-License-Identifier: Apache-2.0
"""Nodes and graphs as values: read-only parameters, look-up, replacement."""

import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from hw.ir import (
    OPS,
    Concat,
    Conv,
    Graph,
    Input,
    IRError,
    Linear,
    MaxPool,
    Node,
    Output,
    Requant,
    WeightFormat,
    frozen_array,
    sources,
)

IMAGE = Input("image", 4, 4, 1, 2)
CONV = Conv("conv", "image", 1, 1, WeightFormat(2), weights=np.ones((1, 1, 1, 1), np.int8))
ACT = Requant("act", "conv", 2, 0, np.array([1]), np.array([0]))
JOIN = Concat("join", ("act", "act"))
GRAPH = Graph("g", (IMAGE, CONV, ACT, JOIN, Output("output", "join")))


def test_parameters_are_read_only_int64_copies():
    given = np.arange(3, dtype=np.uint8)
    array = frozen_array(given)
    given[0] = 9
    assert array.dtype == np.int64
    assert array.tolist() == [0, 1, 2]
    for frozen in (array, CONV.weights, ACT.mul, Output("o", "act", np.ones(2)).scale):
        with pytest.raises(ValueError, match="read-only"):
            frozen[...] = 0
    assert frozen_array(None) is None


@pytest.mark.parametrize("values", [np.ones(2), np.array([True]), np.array(["1"])])
def test_parameters_that_are_not_integers_are_refused(values):
    message = f"parameters must be integers, got dtype {values.dtype}; round them first"
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        Requant("r", "conv", 2, mul=values)


def test_nodes_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        CONV.kernel = 3


def test_ops_is_the_closed_union():
    assert set(OPS) == set(Node.__args__)


def test_sources_of_every_kind():
    assert [sources(node) for node in GRAPH.nodes] == [
        (),
        ("image",),
        ("conv",),
        ("act", "act"),
        ("join",),
    ]


def test_look_up_names_what_exists():
    assert GRAPH["conv"] is CONV
    assert GRAPH.input is IMAGE
    assert GRAPH.output.name == "output"
    message = "graph 'g' has no node 'c'; nodes are: image, conv, act, join, output"
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        GRAPH["c"]


def test_of_type_and_consumers_keep_order():
    assert GRAPH.of_type(Input, Concat) == (IMAGE, JOIN)
    assert GRAPH.of_type(MaxPool, Linear) == ()
    assert GRAPH.consumers("act") == (JOIN,)
    assert GRAPH.consumers("output") == ()


def test_a_graph_with_a_missing_parameter_is_shape_only():
    assert GRAPH.has_parameters
    for node, field in ((CONV, "weights"), (ACT, "mul")):
        assert not GRAPH.with_node(replace(node, **{field: None})).has_parameters


def test_with_node_replaces_one_node_of_a_copy():
    wider = replace(ACT, bits=3)
    changed = GRAPH.with_node(wider)
    assert [a is b for a, b in zip(changed.nodes, GRAPH.nodes, strict=True)] == [
        True,
        True,
        False,
        True,
        True,
    ]
    assert GRAPH["act"].bits == 2
    with pytest.raises(IRError, match="has no node 'other'"):
        GRAPH.with_node(replace(ACT, name="other"))
