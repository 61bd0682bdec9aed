# SPDX-License-Identifier: Apache-2.0
"""Graph <-> directory: `graph.json` (structure) and `tensors.npz` (parameters)."""

import dataclasses
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np

from hw.ir import OPS, VERSION, Graph, IRError, Node, WeightFormat
from hw.ir_verify import verify

_TENSORS = {"weights", "bias", "mul", "scale"}
_OPS = {op.__name__: op for op in OPS}
# What json, zipfile and numpy raise on files that are cut, altered or of another kind.
_UNREADABLE = (OSError, EOFError, AttributeError, KeyError, TypeError, ValueError)


def save(graph: Graph, directory: Path | str) -> None:
    """Write a verified graph; the directory appears whole or not at all (an old one is replaced).

    Raises IRError if the graph breaks the rules, OSError if the place cannot be written.
    """
    verify(graph)
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = directory.with_name(f".{directory.name}-{os.getpid()}")
    temporary.mkdir()
    try:
        (temporary / "graph.json").write_text(dumps(graph))
        np.savez(temporary / "tensors.npz", **_tensors(graph))
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load(directory: Path | str) -> Graph:
    """Read and verify a graph; IRError names the file, the version or the rule that is broken."""
    path = Path(directory) / "graph.json"
    try:
        document = json.loads(path.read_text())
        version = document.get("version")
    except _UNREADABLE as error:
        raise IRError(f"cannot read {path}: {error}; export the graph again") from error
    if version != VERSION:
        raise IRError(
            f"{path} has IR version {version!r}, this program reads {VERSION}; "
            "export the graph again"
        )
    try:
        with open(Path(directory) / "tensors.npz", "rb") as file, np.load(file) as tensors:
            nodes = tuple(_node_from_json(entry, tensors) for entry in document["nodes"])
            _check_names(nodes, tensors.files)
        graph = Graph(document["name"], nodes)
        verify(graph)
    except (*_UNREADABLE, zipfile.BadZipFile) as error:
        raise IRError(f"{directory} holds no readable graph ({error}); export it again") from error
    return graph


def dumps(graph: Graph) -> str:
    """Return the structure as JSON, one node a line, keys sorted (deterministic)."""
    nodes = ",\n".join("  " + json.dumps(_node_to_json(n), sort_keys=True) for n in graph.nodes)
    name = json.dumps(graph.name)
    return f'{{"version": {graph.version}, "name": {name}, "nodes": [\n{nodes}\n]}}\n'


def _tensors(graph: Graph) -> dict[str, np.ndarray]:
    return {
        f"{node.name}.{field}": getattr(node, field)
        for node in graph.nodes
        for field in _tensor_fields(node)
    }


def _tensor_fields(node: Node) -> list[str]:
    names = (field.name for field in dataclasses.fields(node))
    return [name for name in names if name in _TENSORS and getattr(node, name) is not None]


def _check_names(nodes: tuple[Node, ...], found: list[str]) -> None:
    wanted = {f"{node.name}.{field}" for node in nodes for field in _tensor_fields(node)}
    if extra := set(found) - wanted:
        raise IRError(f"tensors.npz has '{min(extra)}', which graph.json does not name")


def _node_to_json(node: Node) -> dict:
    entry = {"op": type(node).__name__, "tensors": _tensor_fields(node)}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if field.name in _TENSORS:
            continue
        entry[field.name] = dataclasses.asdict(value) if field.name == "w_format" else value
    return entry


def _node_from_json(entry: dict, tensors: np.lib.npyio.NpzFile) -> Node:
    entry = dict(entry)
    name = entry.pop("op")
    if name not in _OPS:
        raise IRError(f"unknown op '{name}'; known: {', '.join(sorted(_OPS))}")
    op = _OPS[name]
    if "w_format" in entry:
        entry["w_format"] = WeightFormat(**entry["w_format"])
    if "sources" in entry:
        entry["sources"] = tuple(entry["sources"])
    for field in entry.pop("tensors"):
        entry[field] = tensors[f"{entry['name']}.{field}"]
    return op(**entry)
