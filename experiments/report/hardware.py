# SPDX-License-Identifier: Apache-2.0
"""Sections on the accelerator: layers, resources with their bands, processes, FIFOs."""

from collections.abc import Callable, Mapping, Sequence

from experiments.report import colours
from experiments.report.elements import (
    MINUS,
    Markup,
    bar,
    count,
    figure,
    grid,
    join,
    legend,
    number,
    percent,
    section,
    stack,
    table,
    tag,
)
from experiments.report.record import RunRecord

SHOWN_ROWS = 12  # of the processes and FIFOs; the others fold away
RESOURCES = {"dsp": "DSP slices", "lut": "LUT", "ff": "flip-flops", "bram18": "BRAM18"}
LAYER_COLUMNS = {
    "w × a": lambda layer: f"{layer['w']} × {layer['a']}",
    "products / DSP": lambda layer: number(layer["macs_per_dsp"]),
    "channels × columns": lambda layer: f"{layer['groups']} × {layer['columns']}",
    "words": lambda layer: layer["word_steps"],
    "decoding": lambda layer: f"{layer['mode']}, {layer['known_bits']} known bits",
    "chain": lambda layer: layer["chain"],
    "pe × simd": lambda layer: f"{layer['pe']} × {layer['simd']}",
    "kernel rows": lambda layer: layer["kernel_rows"],
    "requant lanes": lambda layer: layer["requant_lanes"],
    "LUT": lambda layer: count(layer["lut"]),
    "BRAM18": lambda layer: count(layer["bram18"]),
}


def layers_section(record: RunRecord) -> Markup | None:
    """Show cycles, DSP slices and bits of every layer, and how each is mapped."""
    if (result := record.result("simulate")) is None:
        return None
    layers, cycles = result["layers"], result["cycles"]
    interval = cycles["interval"]
    alone = max(process["closed_form"] for process in cycles["per_process"].values())
    lead = (
        f"A frame leaves every {count(interval)} cycles (the slowest process alone needs "
        f"{count(alone)}); the first leaves after {count(cycles['latency'])}. Loops start once a "
        "cycle by construction; their depth and the clock are assumed until synthesis."
    )
    cards = grid(_cycles(layers, interval), _slices(layers), _widths(layers))
    rows = [(layer["name"], *(show(layer) for show in LAYER_COLUMNS.values())) for layer in layers]
    content = table(("layer", *LAYER_COLUMNS), rows, "figures")
    mapping = figure("How each layer is mapped", content, evidence="model")
    return section("Layers on the device", lead, cards, mapping, id_="layers")


def _cycles(layers: Sequence[Mapping], interval: int) -> Markup:
    top = max(interval, *(layer["mac_cycles"] for layer in layers))
    rows = [
        (
            layer["name"],
            bar(layer["mac_cycles"] / top, colours.BLUE, interval / top),
            count(layer["mac_cycles"]),
        )
        for layer in layers
    ]
    note = "Multiplier array, cycles a frame. Line: interval of the pipeline."
    return figure("Cycles", table(("layer", "", "cycles"), rows, "bars"), note, "model")


def _slices(layers: Sequence[Mapping]) -> Markup:
    top = max(1, *(layer["dsp"] for layer in layers))
    rows = [
        (layer["name"], bar(layer["dsp"] / top, colours.GREEN), count(layer["dsp"]))
        for layer in layers
    ]
    note = "Slices of each layer, requantisers included."
    return figure("DSP", table(("layer", "", "slices"), rows, "bars"), note, "model")


def _widths(layers: Sequence[Mapping]) -> Markup:
    def pair(layer: Mapping) -> Markup:
        bars = (bar(layer[key] / 8, colours.WIDTHS[layer[key]]) for key in ("w", "a"))
        return tag("span", *bars, class_="pair")

    rows = [(layer["name"], pair(layer), f"{layer['w']} / {layer['a']}") for layer in layers]
    note = "Upper bar: weights. Lower bar: activations. Full length: 8 bits."
    return figure("Bits", table(("layer", "", "w / a"), rows, "bars"), note)


def resources_section(record: RunRecord) -> Markup | None:
    """Show what the design takes of the device, with the error band of each estimate."""
    if (result := record.result("simulate")) is None:
        return None
    device, used = record.run["device"], result["resources"]
    rows = [_resource(name, used, device[name]) for name in RESOURCES]
    lead = (
        f"Estimate for {device['part']} from the structure of the generated code; "
        "no synthesis has been run. Whiskers: error band. Line: what the device has."
    )
    risks = [RESOURCES[name] for name in RESOURCES if used.get(f"{name}_high", 0) > device[name]]
    if risks:
        lead += f" The band of {' and '.join(risks)} reaches beyond it: synthesis decides."
    head = ("resource", "", "used", "available", "share", "error band")
    content = figure(f"Budget of {device['name']}", table(head, rows, "bars"), evidence="model")
    return section("Resources", lead, content, id_="resources")


def _resource(name: str, used: Mapping[str, int], available: int) -> tuple[object, ...]:
    value = used[name]
    low, high = (used.get(f"{name}_{end}", value) for end in ("low", "high"))
    top = max(available, high)
    colour = colours.BLUE if value <= available else colours.VERMILION
    drawn = [bar(value / top, colour, available / top)]
    if low != high:
        style = f"left:{low / top:.2%};width:{(high - low) / top:.2%}"
        drawn.append(tag("span", class_="band", style=style))
    range_ = f" ({count(low)}–{count(high)})" if low != high else ""
    return (
        RESOURCES[name],
        tag("span", *drawn, class_="banded"),
        f"{count(value)}{range_}",
        count(available),
        percent(value / available),
        _band(value, low, high),
    )


def _band(value: int, low: int, high: int) -> str:
    """Return the error band in words."""
    if low == high or value == 0:
        return "counted by rule"
    below, above = round(100 * (1 - low / value)), round(100 * (high / value - 1))
    band = f"±{above} %" if below == above else f"{MINUS}{below} % to +{above} %"
    return f"model, {band} until calibrated"


def pipeline_section(record: RunRecord) -> Markup | None:
    """Show closed-form and simulated cycles of every process, and the FIFOs between them."""
    if (result := record.result("simulate")) is None:
        return None
    cycles = result["cycles"]
    lead = (
        f"Cycle-level simulation of {cycles['frames']} frames: every process is one loop, every "
        f"FIFO is finite. Bottleneck: {cycles['bottleneck']}."
    )
    return section(
        "Pipeline",
        lead,
        _processes(cycles),
        _fifos(cycles["fifos"]),
        id_="pipeline",
    )


WAITS = (
    ("busy", colours.BLUE),
    ("waits for input", colours.SAND),
    ("waits for room", colours.VERMILION),
)


def _processes(cycles: Mapping) -> Markup:
    processes, frames = cycles["per_process"], cycles["frames"]
    slowest_first = sorted(processes.items(), key=lambda item: (-item[1]["closed_form"], item[0]))
    rows = []
    for name, process in slowest_first:
        waits = [process[key] for key in ("busy", "stall_input", "stall_output")]
        total = max(1, sum(waits))
        shares = [(wait / total, tone) for wait, (_, tone) in zip(waits, WAITS, strict=True)]
        label = tag("strong", name) if name == cycles["bottleneck"] else name
        rows.append((label, count(process["closed_form"]), *map(count, waits), stack(shares)))
    head = ("process", "cycles a frame", *(name for name, _ in WAITS), "simulated")
    note = (
        f"Cycles a frame: closed form, without stalls. Others: cycles of {frames} simulated frames."
    )
    content = join((legend(WAITS), _folded(head, rows, "figures")))
    return figure("Processes, the slowest first", content, note, "model")


def _fifos(fifos: Mapping[str, Mapping[str, int]]) -> Markup:
    deepest_first = sorted(fifos.items(), key=lambda item: (-item[1]["depth"], item[0]))
    rows = [
        (
            name,
            count(fifo["depth"]),
            count(fifo["latency"]),
            count(fifo["peak"]),
            bar(fifo["peak"] / (fifo["depth"] + fifo["latency"]), colours.GREEN),
        )
        for name, fifo in deepest_first
    ]
    head = ("FIFO", "depth", "registers", "peak", "filled")
    note = "Words. The peak counts words in the FIFO and in its writer's pipeline registers."
    content = _folded(head, rows, "figures")
    return figure("FIFOs, the deepest first", content, note, "model")


def _folded(head: Sequence[object], rows: Sequence[Sequence[object]], class_: str) -> Markup:
    """Return a table whose rows after the first `SHOWN_ROWS` unfold on a click."""
    first = table(head, rows[:SHOWN_ROWS], class_)
    if len(rows) <= SHOWN_ROWS:
        return first
    rest = table(head, rows[SHOWN_ROWS:], class_)
    summary = tag("summary", f"{len(rows) - SHOWN_ROWS} more")
    return join((first, tag("details", summary, rest)))


SECTIONS: tuple[Callable[[RunRecord], Markup | None], ...] = (
    layers_section,
    resources_section,
    pipeline_section,
)
