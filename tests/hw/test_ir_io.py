# SPDX-License-Identifier: Apache-2.0
"""Saved graphs come back identical; broken or foreign files are refused by name."""

import dataclasses
import json
import os
import re
import shutil
from dataclasses import replace
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given

from hw import ir_io
from hw.ir import Conv, Graph, Input, IRError, Output, WeightFormat
from tests.strategies import any_graph, shape_graph

GRAPH = Graph(
    "tiny",
    (
        Input("image", 2, 2, 1, 4),
        Conv("conv", "image", 1, 1, WeightFormat(4, False), weights=np.full((1, 1, 1, 1), -8)),
        Output("output", "conv", np.array([0.1])),
    ),
)


def same(first: Graph, second: Graph) -> bool:
    """Whether two graphs have equal nodes, fields and arrays."""
    if (first.name, first.version, len(first.nodes)) != (
        second.name,
        second.version,
        len(second.nodes),
    ):
        return False
    return all(
        type(a) is type(b)
        and all(
            np.array_equal(getattr(a, field.name), getattr(b, field.name))
            if isinstance(getattr(a, field.name), np.ndarray)
            else getattr(a, field.name) == getattr(b, field.name)
            for field in dataclasses.fields(a)
        )
        for a, b in zip(first.nodes, second.nodes, strict=True)
    )


def round_trip(graph: Graph) -> Graph:
    with TemporaryDirectory() as folder:
        ir_io.save(graph, f"{folder}/new/graph")
        return ir_io.load(f"{folder}/new/graph")


@given(any_graph())
def test_graphs_with_parameters_come_back_identical(graph):
    scaled = graph.with_node(replace(graph.output, scale=None))
    loaded = round_trip(scaled)
    assert same(loaded, scaled)
    assert loaded.has_parameters


@given(shape_graph())
def test_shape_only_graphs_come_back_identical(graph):
    assert same(round_trip(graph), graph)


def test_scale_comes_back_exactly():
    scale = round_trip(GRAPH).output.scale
    assert scale.dtype == np.float64
    assert scale.tolist() == [0.1]


def test_text_is_deterministic_and_one_node_a_line():
    text = ir_io.dumps(GRAPH)
    assert text == ir_io.dumps(round_trip(GRAPH))
    assert len(text.splitlines()) == len(GRAPH.nodes) + 2
    assert json.loads(text)["version"] == 1


def test_saving_replaces_an_old_graph_whole(tmp_path):
    target = tmp_path / "graph"
    ir_io.save(GRAPH, target)
    (target / "stale").touch()
    ir_io.save(replace(GRAPH, name="next"), target)
    assert sorted(os.listdir(target)) == ["graph.json", "tensors.npz"]
    assert ir_io.load(target).name == "next"
    assert os.listdir(tmp_path) == ["graph"]


def test_a_failed_save_leaves_the_old_graph_and_nothing_else(tmp_path, monkeypatch):
    target = tmp_path / "graph"
    ir_io.save(GRAPH, target)

    def full(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space left"):
        ir_io.save(replace(GRAPH, name="next"), target)
    assert ir_io.load(target).name == "tiny"
    assert os.listdir(tmp_path) == ["graph"]


def test_a_broken_graph_is_not_saved(tmp_path):
    broken = replace(GRAPH, nodes=GRAPH.nodes[:2])
    with pytest.raises(IRError, match="exactly the last node must be an Output"):
        ir_io.save(broken, tmp_path / "graph")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def saved(tmp_path):
    """Return (folder, edit): edit(old, new) replaces text in graph.json."""
    folder = tmp_path / "graph"
    ir_io.save(GRAPH, folder)

    def edit(old: str, new: str) -> None:
        text = (folder / "graph.json").read_text()
        assert old in text
        (folder / "graph.json").write_text(text.replace(old, new, 1))

    return folder, edit


@pytest.mark.parametrize("version", ["2", "0", '"1"', "null"])
def test_unknown_versions_are_refused(saved, version):
    folder, edit = saved
    edit('"version": 1', f'"version": {version}')
    shown = repr(json.loads(version))
    message = (
        f"{folder}/graph.json has IR version {shown}, this program reads 1; export the graph again"
    )
    with pytest.raises(IRError, match=f"^{re.escape(message)}$"):
        ir_io.load(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b'{"version": 1,', b"null"])
def test_files_that_are_no_graph_are_refused(saved, content):
    folder, _ = saved
    (folder / "graph.json").write_bytes(content)
    with pytest.raises(IRError, match=f"^cannot read {folder}/graph.json: .*; export the graph"):
        ir_io.load(folder)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"op": "Conv"', '"op": "Warp"', "unknown op 'Warp'; known: Add, Concat, Conv,"),
        ('"op": "Conv", ', "", "'op'"),
        ('"name": "tiny"', '"title": "tiny"', "'name'"),
        ('"kernel": 1', '"kernel": "1"', "'<' not supported"),
        ('"kernel": 1', '"kernel": 3', r"node 'conv': kernel 3 does not fit 2x2"),
        ('"kernel": 1', '"colour": 1', "unexpected keyword argument 'colour'"),
        ('"source": "image"', '"source": "imago"', "reads 'imago', which is not an earlier node"),
        ('"name": "image"', '"name": 3', "'int' object has no attribute"),
        ('"bits": 4, "narrow"', '"bits": 3, "narrow"', "weights span -8..-8, outside the full 3-"),
    ],
)
def test_altered_structure_is_refused(saved, old, new, reason):
    folder, edit = saved
    edit(old, new)
    with pytest.raises(IRError, match=f"^{folder} holds no readable graph \\(.*{reason}"):
        ir_io.load(folder)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    place = data.index(b"\xf8\xff\xff")  # the weight -8
    return data[:place] + b"\xf9" + data[place + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda _: b"", lambda _: b"text"])
def test_damaged_tensors_are_refused(saved, damage):
    folder, _ = saved
    path = folder / "tensors.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IRError, match=f"^{folder} holds no readable graph .*; export it again$"):
        ir_io.load(folder)


def test_a_missing_tensor_is_named(saved):
    folder, _ = saved
    np.savez(folder / "tensors.npz", **{"output.scale": np.array([0.1])})
    with pytest.raises(
        IRError, match=r"^.* holds no readable graph \(.*conv\.weights is not a file"
    ):
        ir_io.load(folder)


def test_a_left_over_tensor_is_named(saved):
    folder, edit = saved
    edit('"tensors": ["scale"]', '"tensors": []')
    message = "tensors.npz has 'output.scale', which graph.json does not name"
    with pytest.raises(IRError, match=re.escape(message)):
        ir_io.load(folder)


@pytest.mark.parametrize("values", [np.ones((1, 1, 1, 1)), np.array([[[[None]]]])])
def test_tensors_of_another_kind_are_refused(saved, values):
    folder, _ = saved
    np.savez(folder / "tensors.npz", **{"conv.weights": values})
    with pytest.raises(IRError, match=f"^{folder} holds no readable graph "):
        ir_io.load(folder)


def test_missing_files_are_named(saved):
    folder, _ = saved
    (folder / "tensors.npz").unlink()
    with pytest.raises(IRError, match=r"No such file or directory: '.*tensors\.npz'"):
        ir_io.load(folder)
    shutil.rmtree(folder)
    with pytest.raises(IRError, match=f"^cannot read {folder}/graph.json: .*No such file"):
        ir_io.load(folder)
