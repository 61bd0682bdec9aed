# SPDX-License-Identifier: Apache-2.0
"""Shapes of the documents that the stages write, and the check that a document has its shape."""

from types import UnionType
from typing import Any

NUMBER = int | float
COSTS = ("dsp", "bitops", "bram")
WIDTH = range(2, 9)
BITS = {"*": [WIDTH, WIDTH]}
COST = dict.fromkeys(COSTS, NUMBER)

# A shape is a type, a range of integers, [shape of the elements, one or more], (shape of the
# elements, if any,), [shape of each element, ...] or {key: shape}; the key "*" stands for any keys,
# one or more.
DOCUMENTS: dict[str, Any] = {
    "run.json": {
        "schema": int,
        "program": str,
        "score": str,
        "preset": str,
        "options": dict,
        "recipe": dict,
        "versions": {"*": str},
        "network": {"name": str, "height": int, "width": int, "layers": [str], "fixed": (str,)},
        "device": {
            "name": str,
            "part": str,
            "dsp": int,
            "lut": int,
            "ff": int,
            "bram18": int,
            "clock_mhz": NUMBER,
        },
        "data": {
            "source": str,
            "note": str,
            "classes": (str,),
            "train_frames": int,
            "test_frames": int,
        },
    },
    "search/result.json": {
        "bits": BITS,
        "cost": COST,
        "reference_cost": {"*": COST},
        "seconds": NUMBER,
    },
    "train/result.json": {"bits": BITS, "warm_start": bool, "steps": int, "seconds": NUMBER},
    "test/result.json": {
        "frames": int,
        "score": dict.fromkeys(("float", "quant", "integer", "constant"), NUMBER),
        "score_error": dict.fromkeys(("float", "quant", "integer"), NUMBER),
        "differences": {"*": [int, int]},
        "seconds": NUMBER,
    },
    "export/result.json": {"files": int, "bytes": int, "digest": str, "seconds": NUMBER},
    "simulate/result.json": {
        "csim": {
            "frames": int,
            "mismatches": int,
            "first_mismatch": str | None,
            "seconds": NUMBER,
            "compile_seconds": NUMBER,
            "compared": str,
        },
        "cycles": {
            "frames": int,
            "interval": int,
            "latency": int,
            "bottleneck": str,
            "fps_at_clock": NUMBER,
            "per_process": {
                "*": {"closed_form": int, "busy": int, "stall_input": int, "stall_output": int}
            },
            "fifos": {"*": {"depth": int, "latency": int, "peak": int}},
        },
        "resources": {"dsp": int, "lut": int, "ff": int, "bram18": int},
        "layers": [
            {
                **dict.fromkeys(("name", "mode"), str),
                **dict.fromkeys(("w", "a", "pe", "simd", "kernel_rows", "requant_lanes"), int),
                **dict.fromkeys(("groups", "columns", "word_steps", "known_bits", "chain"), int),
                **dict.fromkeys(("dsp", "mac_cycles", "lut", "bram18"), int),
                "macs_per_dsp": NUMBER,
            }
        ],
        "seconds": NUMBER,
    },
}


def check(value: Any, shape: Any, name: str = "the document") -> None:
    """Raise ValueError naming the first part of `value` that `shape` does not allow."""
    match shape:
        case {"*": inner}:
            _expect(value, dict, name)
            for key, part in value.items():
                check(part, inner, f"{name}.{key}")
        case dict():
            _expect(value, dict, name)
            for key, inner in shape.items():
                if key not in value:
                    raise ValueError(f"{name} has no '{key}'")
                check(value[key], inner, f"{name}.{key}")
        case range():  # before lists: a range is a sequence too
            if value not in shape:
                raise ValueError(f"{name} is {value!r}, not in {shape[0]}..{shape[-1]}")
        case tuple():
            if value != []:
                check(value, list(shape), name)
        case [inner, *others]:
            _expect(value, list, name)
            shapes = shape if others else [inner] * len(value)
            if len(shapes) != len(value):
                raise ValueError(f"{name} has {len(value)} elements, not {len(shapes)}")
            for index, (part, inner) in enumerate(zip(value, shapes, strict=True)):
                check(part, inner, f"{name}[{index}]")
        case _:
            _expect(value, shape, name)


def _expect(value: Any, allowed: type | UnionType, name: str) -> None:
    # bool is an int to Python, not to a reader of JSON.
    if not isinstance(value, allowed) or (isinstance(value, bool) and allowed is not bool):
        wanted = allowed.__name__ if isinstance(allowed, type) else str(allowed)
        raise ValueError(f"{name} is {str(value)[:40]!r}, not {wanted}")
    if value in ({}, []):
        raise ValueError(f"{name} is empty")
