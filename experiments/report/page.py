# SPDX-License-Identifier: Apache-2.0
"""report.html: one page that needs nothing outside itself."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from experiments.report import colours, hardware, learning
from experiments.report.elements import (
    Evidence,
    Markup,
    bar,
    chip,
    count,
    duration,
    figure,
    grid,
    join,
    section,
    table,
    tag,
)
from experiments.report.headlines import headlines
from experiments.report.record import STAGES, RunRecord
from experiments.report.words import WORDS

EVIDENCE: dict[Evidence, str] = {
    "measured": "the network was run on the test split.",
    "model": "computed from the structure of the design, by closed forms or the cycle-level "
    "simulator. No synthesis tool and no board was used.",
    "C simulation": "the generated C++ was compiled with g++ and run; its integers were compared "
    "with the integer network's.",
}


def render(record: RunRecord) -> str:
    """Return the page of a run. Equal records give equal pages."""
    network, device = record.run["network"], record.run["device"]
    title = f"{network['name']} on {device['name']}"
    made = (make(record) for make in (*learning.SECTIONS, *hardware.SECTIONS))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{title}: mixed-precision report"),
        tag("style", _style()),
    )
    sections = [part for part in made if part is not None]
    main = tag("main", _header(record, title), *sections, _run_section(record), _footer())
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def _style() -> Markup:
    """Return the style sheet, with the colours that the page shares with its figures."""
    shared = ("INK", "MUTED", "RULE", "BLUE", "LABEL_BOX", "PREDICTION_BOX")
    names = ((name.lower().replace("_", "-"), getattr(colours, name)) for name in shared)
    variables = "".join(f"--{name}: {colour}; " for name, colour in names)
    sheet = files(__package__).joinpath("style.css").read_text("utf-8")
    return Markup(f":root {{ {variables}}}\n{sheet}")


def _header(record: RunRecord, title: str) -> Markup:
    network, data, device = (record.run[key] for key in ("network", "data", "device"))
    images = WORDS[record.score_name].images
    facts = (
        f"{network['height']} × {network['width']} images · {record.run['preset']} preset · "
        f"{data['source']} data{_note(data)}: {count(data['train_frames'])} training and "
        f"{count(data['test_frames'])} test {images} · {device['clock_mhz']:g} MHz"
    )
    return tag(
        "header",
        tag("p", "Mixed-precision report", class_="kicker"),
        tag("h1", title),
        tag("p", facts, class_="facts"),
        _stages(record),
        headlines(record),
        _missing(record),
    )


def _note(data: Mapping[str, Any]) -> str:
    return f" ({data['note']})" if data["note"] else ""


def _stages(record: RunRecord) -> Markup:
    def step(stage: str) -> Markup:
        result = record.result(stage)
        time = "not run" if result is None else duration(result["seconds"])
        return tag("li", tag("b", stage), time, class_="absent" if result is None else None)

    return tag("ol", *map(step, STAGES), class_="stages")


def _missing(record: RunRecord) -> Markup | str:
    if not record.missing:
        return ""
    items = (tag("li", *_state(record, stage)) for stage in record.missing)
    return tag("aside", tag("p", "Not in this report:"), tag("ul", *items), class_="missing")


def _state(record: RunRecord, stage: str) -> tuple[str, Markup]:
    """Return how far a stage without a result has come, and the command that goes on."""
    begun = {"search": record.search, "train": record.train}.get(stage) is not None
    state, more = ("has not finished", " --resume") if begun else ("has not run", "")
    return f"{stage} {state}: ", tag("code", record.command(stage) + more)


def _run_section(record: RunRecord) -> Markup:
    versions = table(("package", "version"), record.run["versions"].items(), "figures")
    given = {key: value for key, value in record.run["options"].items() if value is not None}
    options = table(("option", "value"), given.items(), "figures")
    recipe = table(("option", "value"), record.run["recipe"].items(), "figures")
    more = tag("details", tag("summary", "all values of the preset"), recipe)
    cards = (
        figure("Time", _seconds(record)),
        figure("Versions", versions),
        figure("Options", join((options, more))),
    )
    export = record.result("export")
    project = (
        f"The HLS project hls/ has {count(export['files'])} files, {count(export['bytes'])} bytes; "
        f"digest {export['digest'][:16]}."
        if export
        else "No HLS project has been exported."
    )
    return section("Run", project, grid(*cards), id_="run")


def _seconds(record: RunRecord) -> Markup:
    times = {stage: result["seconds"] for stage, result in record.results.items()}
    if simulate := record.result("simulate"):
        times["C++ compiler"] = simulate["csim"]["compile_seconds"]
        times["C simulation"] = simulate["csim"]["seconds"]
    longest = max([1e-9, *times.values()])
    rows = [
        (name, bar(seconds / longest, colours.GREY), duration(seconds))
        for name, seconds in times.items()
    ]
    return table(("stage", "", "time"), rows, "bars")


def _footer() -> Markup:
    entries = (
        tag("p", chip(evidence), " ", meaning, class_="evidence")
        for evidence, meaning in EVIDENCE.items()
    )
    return tag("footer", tag("h2", "What the numbers rest on"), *entries)
