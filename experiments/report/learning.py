# SPDX-License-Identifier: Apache-2.0
"""Sections on what was learnt: bits per layer, search, training, accuracy, sample detections."""

from collections.abc import Callable, Mapping

from experiments.report import colours, figures
from experiments.report.answers import answers
from experiments.report.detections import shots
from experiments.report.document import chosen_bits
from experiments.report.elements import (
    Markup,
    bar,
    change,
    count,
    figure,
    grid,
    join,
    legend,
    number,
    percent,
    section,
    signed,
    svg_image,
    table,
    tag,
)
from experiments.report.record import RunRecord, SearchTrace, TrainTrace
from experiments.report.words import WORDS, Words

COSTS = {"dsp": "DSP work", "bitops": "Bit operations", "bram": "On-chip memory"}
NETWORKS = {"float": "float", "quant": "quantised", "integer": "integer"}


def bits_section(record: RunRecord) -> Markup | None:
    """Show the bits of every layer as a strip, and the cost against the reference widths."""
    bits, search = chosen_bits(record), record.result("search")
    if bits is None:
        return None
    lead = "Width of the weights and of the input activations of every layer."
    if search is None:
        lead += " The widths were given; no search was run."
    elif search["bits"] != bits:
        lead += " The network was trained at given widths, not at those the search found."
    cost = _cost_table(search) if search else ""
    return section("Bits per layer", lead, _strip(bits), cost, id_="bits")


def _strip(bits: Mapping[str, list[int]]) -> Markup:
    def cells(operand: int) -> list[Markup]:
        return [_width(pair[operand]) for pair in bits.values()]

    rows = (("weights", *cells(0)), ("activations", *cells(1)))
    return table(("", *bits), rows, "strip")


def _width(bits: int) -> Markup:
    tone = " dark" if bits in colours.DARK_WIDTHS else ""
    return tag("span", bits, class_=f"width{tone}", style=f"background:{colours.WIDTHS[bits]}")


def _cost_table(search: Mapping) -> Markup:
    cost, references = search["cost"], search["reference_cost"]
    rows = []
    for name, title in COSTS.items():
        value, others = cost[name], [reference[name] for reference in references.values()]
        top = max(value, *others)
        compared = (cell for other in others for cell in (change(value, other), number(other)))
        shown = bar(value / top, colours.BLUE, others[0] / top)
        rows.append((title, shown, number(value), *compared))
    compared = (cell for name in references for cell in ("change from", name))
    content = table(("", "", "searched", *compared), rows, "bars")
    note = (
        "DSP work: DSP-cycles a frame. Bit operations: MACs × weight bits × activation bits. "
        "On-chip memory: bits of weights and buffered rows. "
        "All times 64 / MACs of the first layer, as in the published loss. "
        "Line: the reference widths."
    )
    return figure("Cost of the searched widths", content, note, "model")


def search_section(record: RunRecord) -> Markup | None:
    """Show how the search came to its widths: probabilities, entropy, cost, losses."""
    trace, result = record.search, record.result("search")
    if trace is None:
        return None
    lead = (
        f"{count(len(trace.step))} steps; temperature {number(trace.tau[0])} to "
        f"{number(trace.tau[-1])}. Each panel below is one layer: the probability of every width, "
        "step by step; weights × activations. A panel of one colour is a decision."
    )
    references = result["reference_cost"] if result else {}
    return section(
        "Search",
        lead,
        legend((f"{bits} bits", colour) for bits, colour in colours.WIDTHS.items()),
        grid(*_panels(record, trace), class_="grid small"),
        grid(*_search_figures(record, trace), *_costs(trace, references)),
        id_="search",
    )


def _panels(record: RunRecord, trace: SearchTrace) -> list[Markup]:
    widths, panels = tuple(colours.WIDTHS), []
    for index, layer in enumerate(record.layers):
        if layer in record.run["network"]["fixed"]:
            continue  # out of the search
        shares = trace.probability_w[:, index], trace.probability_a[:, index]
        w, a = (widths[share[-1].argmax()] for share in shares)
        sure = " and ".join(percent(share[-1].max()) for share in shares)
        svg = figures.width_shares(trace.step, *shares)
        alt = f"Probabilities of the widths of {layer}: ends at weights {w}, activations {a} bits"
        title = f"{layer}: {w} × {a} bits"
        panels.append(figure(title, svg_image(svg, alt), f"probability {sure}", class_="panel"))
    return panels


def _search_figures(record: RunRecord, trace: SearchTrace) -> list[Markup]:
    cards = [_loss_figure("Loss of the supernet", trace.step, trace.losses)]
    for name, entropy in (("weights", trace.entropy_w), ("activations", trace.entropy_a)):
        svg = figures.entropy_map(trace.step, entropy, record.layers)
        note = "Dark: undecided. Bright: one width has all the probability."
        title = f"Entropy of the {name}' widths"
        cards.append(figure(title, svg_image(svg, f"{title} by layer and step, in nats"), note))
    return cards


def _costs(trace: SearchTrace, references: Mapping[str, Mapping[str, float]]) -> list[Markup]:
    cards = []
    for name, title in COSTS.items():
        expected = trace.cost[name]
        lines = {label: cost[name] for label, cost in references.items()}
        svg = figures.cost_curve(trace.step, expected, trace.argmax_cost[name], lines)
        alt = f"{title}: expected {number(expected[-1])} at the end"
        note = "Where the lines meet, the mixture has become a choice."
        cards.append(figure(title, svg_image(svg, alt), note, "model"))
    return cards


def training_section(record: RunRecord) -> Markup | None:
    """Show losses and score during training, and the score of every form of the network."""
    trace, result, test = record.train, record.result("train"), record.result("test")
    if trace is None and test is None:
        return None
    words, cards = WORDS[record.score_name], []
    if trace is not None:
        cards.append(_loss_figure("Loss at the chosen widths", trace.step, trace.losses))
        if len(trace.score):
            cards.append(_score_figure(words, trace, test))
    if test is not None:
        cards.append(_scores(words, test))
    start = ""
    if result is not None:
        origin = "the supernet's weights" if result["warm_start"] else "random weights"
        if init := record.run["options"].get("init"):
            origin = f"the weights of {init}"
        start = f"{count(result['steps'])} steps from {origin}. "
    lead = join((start, words.meaning))
    return section("Training and accuracy", lead, grid(*cards), _differences(test), id_="training")


def _loss_figure(title: str, step, losses) -> Markup:
    svg = figures.loss_curves(step, losses)
    note = "Pale: means of equal bins of steps. Dark: their moving mean."
    return figure(title, svg_image(svg, f"{title}: ends at {number(losses['total'][-1])}"), note)


def _score_figure(words: Words, trace: TrainTrace, test: Mapping | None) -> Markup:
    lines = {}
    if test:
        lines = {"integer": test["score"]["integer"], words.constant: test["score"]["constant"]}
    svg = figures.score_curve(trace.score_step, trace.score, words.score, lines)
    note = "Training: the quantised network on a part of the test split. Lines: all of it."
    title = f"{words.score} during training"
    drawing = svg_image(svg, f"{title}: ends at {trace.score[-1]:.3f}")
    return figure(title[0].upper() + title[1:], drawing, note, "measured")


def _scores(words: Words, test: Mapping) -> Markup:
    score = test["score"]
    rows = [
        (
            label,
            bar(score[name], _tone(name)),
            tag("strong", f"{score[name]:.4f}"),
            _error(test, name),
        )
        for name, label in (NETWORKS | {"constant": words.constant}).items()
    ]
    shift = score["integer"] - score["quant"]
    note = (
        f"{count(test['frames'])} test {words.images}; ±: standard error of the mean. "
        f"Integer less quantised: {signed(f'{abs(shift):.4f}', shift)}. {words.constant_meaning}"
    )
    content = table(("network", "", words.score, "±"), rows, "bars")
    title = f"{words.score} of every form"
    return figure(title[0].upper() + title[1:], content, note, "measured")


def _error(test: Mapping, network: str) -> str:
    return f"{test['score_error'][network]:.4f}" if network in test["score_error"] else ""


def _tone(network: str) -> str:
    return {"integer": colours.BLUE, "constant": colours.VERMILION}.get(network, colours.GREY)


def _differences(test: Mapping | None) -> Markup | str:
    if test is None:
        return ""
    shares = {
        layer: percent(differing / total, 3) if differing else "0"
        for layer, (differing, total) in test["differences"].items()
    }
    differing, total = (sum(column) for column in zip(*test["differences"].values(), strict=True))
    note = f"{count(differing)} of {count(total)} activation codes differ"
    note += ": where the float32 norm falls to the other side of an edge, and behind such places."
    if not differing:
        note = f"None of {count(total)} activation codes differs."
    content = table(("", *shares), [("codes that differ", *shares.values())], "compact")
    return figure("Quantised against integer network", content, note, "measured")


def samples_section(record: RunRecord) -> Markup | None:
    """Show sample images with the truth and what the integer network says."""
    if record.samples is None or not len(record.samples.images):
        return None
    if record.score_name == "accuracy":
        lead = "Integer network on test images, from the surest right answer to the surest wrong."
        cards = answers(record.samples, record.run["data"]["classes"])
        return section("Sample answers", lead, grid(*cards, class_="grid answers"), id_="samples")
    lead = (
        "Integer network on test frames. Right of each frame: the surroundings of the labelled box."
    )
    keys = legend((("label", colours.LABEL_BOX), ("prediction (dashed)", colours.PREDICTION_BOX)))
    cards = shots(record.samples)
    return section(
        "Sample detections", lead, keys, grid(*cards, class_="grid shots"), id_="detections"
    )


SECTIONS: tuple[Callable[[RunRecord], Markup | None], ...] = (
    bits_section,
    search_section,
    training_section,
    samples_section,
)
