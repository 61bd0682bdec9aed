# SPDX-License-Identifier: Apache-2.0
"""C++ text: structs of constants and tables."""

from collections.abc import Callable, Sequence

import numpy as np

_LINE_COLUMNS = 100


def struct(name: str, members: Sequence[str]) -> str:
    """Return a struct definition with one member a line."""
    return "\n".join((f"struct {name} {{", *(f"  {member}" for member in members), "};"))


def constant(name: str, value: int) -> str:
    """Return a static constant: a bool, an int or, from 2^31 on, a long long."""
    if isinstance(value, bool):
        kind, text = "bool", str(value).lower()
    elif -(1 << 31) < value < 1 << 31:
        kind, text = "int", value
    else:
        kind, text = "long long", f"{value}LL"
    return f"static constexpr {kind} {name} = {text};"


def lookup(name: str, values: Sequence[int]) -> str:
    """Return a constexpr member function from index to value.

    A function and not an array: static constexpr arrays of a C++14 struct need a definition too.
    """
    listed = ", ".join(map(str, values))
    return (
        f"static constexpr int {name}(int index) {{\n"
        f"    constexpr int values[] = {{{listed}}};\n"
        "    return values[index];\n"
        "  }"
    )


def table(kind: str, name: str, values: np.ndarray) -> str:
    """Return a constant array of the shape of `values`, unsigned numbers in hexadecimal."""
    show = "{:#x}".format if values.dtype.kind == "u" else _signed
    shape = "".join(f"[{size}]" for size in values.shape)
    return f"static const {kind} {name}{shape} = {_braces(values, show)};"


def _signed(value: int) -> str:
    """Spell a 64-bit integer; -2^63 has no literal of its own."""
    return "-9223372036854775807 - 1" if value == -(1 << 63) else str(value)


def _braces(values: np.ndarray, show: Callable[[int], str]) -> str:
    if values.ndim > 1:
        return "{\n" + ",\n".join(_braces(part, show) for part in values) + "}"
    items = [show(value) for value in values.tolist()]
    per_line = max(1, _LINE_COLUMNS // (2 + max(map(len, items))))
    lines = (items[start : start + per_line] for start in range(0, len(items), per_line))
    return "{" + ",\n".join(", ".join(line) for line in lines) + "}"
