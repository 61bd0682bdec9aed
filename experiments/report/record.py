# SPDX-License-Identifier: Apache-2.0
"""What the stages of a run wrote, read and checked; nothing is computed or drawn here."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from experiments import commands
from experiments.classification_options import ClassificationOptions
from experiments.detection_options import DetectionOptions
from experiments.options import needs_search
from experiments.report.colours import WIDTHS
from experiments.report.shapes import COSTS, DOCUMENTS, check

OPTIONS = {kind.program: kind for kind in (DetectionOptions, ClassificationOptions)}
STAGES = ("search", "train", "test", "export", "simulate")
RUN_SCHEMA = 2
# What a parser raises on a file that is not what it should be.
CORRUPT = (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile)

# By the score of a run: the curves of a search and of training.
LOSSES = {
    "iou": {"search": ("total", "box", "objectness"), "train": ("total", "box", "objectness")},
    "accuracy": {"search": ("total", "task"), "train": ("total",)},
}

Curve = Float[np.ndarray, " steps"]
Curves = Mapping[str, Curve]


class ReportError(ValueError):
    """A file of a run that cannot be read; the message names it and the command that makes it."""


@dataclass(frozen=True, eq=False)
class SearchTrace:
    """Recorded steps of a search; probabilities are over widths 2..8.

    `cost` is expected under the probabilities, `argmax_cost` at the likeliest widths, both in
    64 x work / MACs of layer 0. Entropies are in nats.
    """

    step: Curve
    losses: Curves
    cost: Curves
    argmax_cost: Curves
    tau: Curve
    probability_w: Float[np.ndarray, "steps layers 7"]
    probability_a: Float[np.ndarray, "steps layers 7"]
    entropy_w: Float[np.ndarray, "steps layers"]
    entropy_a: Float[np.ndarray, "steps layers"]


@dataclass(frozen=True, eq=False)
class TrainTrace:
    """Recorded steps of training; `score` is the quantised network's after `score_step` steps."""

    step: Curve
    losses: Curves
    score_step: Float[np.ndarray, " points"]
    score: Float[np.ndarray, " points"]


@dataclass(frozen=True, eq=False)
class Samples:
    """k test images (frames as BGR bytes) with the truth and the integer network's answers.

    Both are boxes (cx, cy, w, h) `[k, 4]` in units of the frame, or classes `[k]`.
    """

    images: UInt8[np.ndarray, "k h w c"]
    truth: np.ndarray
    predicted: np.ndarray
    score: Float[np.ndarray, " k"]
    confidence: Float[np.ndarray, " k"]


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Everything a report shows. `results` holds result.json of each stage that finished."""

    out: Path
    run: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    search: SearchTrace | None
    train: TrainTrace | None
    samples: Samples | None

    def result(self, stage: str) -> Mapping[str, Any] | None:
        """Return what `stage` reported, None if it has not finished."""
        return self.results.get(stage)

    @property
    def missing(self) -> tuple[str, ...]:
        """Stages without a result, in the order they run; given widths need no search."""
        needed = STAGES if needs_search(self.run["options"]) else STAGES[1:]
        return tuple(stage for stage in needed if stage not in self.results)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.run["network"]["layers"])

    def command(self, stage: str) -> str:
        """Return the command line that runs `stage` in this folder with the same options."""
        return _command(stage, self.out, self.run)

    @property
    def score_name(self) -> str:
        """ "iou" of a detector, "accuracy" of a classifier."""
        return self.run["score"]


def read_run(out: Path, program: str | None = None) -> RunRecord:
    """Read the folder of a run (of `program`, if given); a stage that is absent is left out.

    Raises ReportError for a missing run.json, for one of another program or of a float network, and
    for a file that is corrupt.
    """
    run = _read_card(out, program)
    layers = run["network"]["layers"]
    make = {stage: _command(stage, out, run) for stage in STAGES}
    losses = LOSSES[run["score"]]
    read = {
        stage: _read(out / stage / "result.json", partial(_result, layers=layers), make[stage])
        for stage in STAGES
    }
    results = {stage: result for stage, result in read.items() if result is not None}
    parse_search = partial(_search, layers=len(layers), losses=losses["search"])
    search = _read(out / "search/metrics.jsonl", parse_search, make["search"])
    train = _train(out / "train", make["train"], losses["train"])
    for stage, trace in (("search", search), ("train", train)):
        untrained = results.get(stage, {}).get("steps") == 0  # the checkpoint of --init as it is
        if stage in results and trace is None and not untrained:
            path = out / stage / "metrics.jsonl"
            raise ReportError(f"{path} is missing or empty; run `{make[stage]}` again")
    classes = len(run["data"]["classes"]) if run["score"] == "accuracy" else None
    parse_samples = partial(_samples, classes=classes)
    samples = _read(out / "test/samples.npz", parse_samples, make["test"])
    return RunRecord(out, run, results, search, train, samples)


def _command(stage: str, out: Path, run: Mapping[str, Any]) -> str:
    """Return a stage's command line; options name a checkpoint by its content, "init" by path."""
    options = run["options"]
    if options.get("init") is not None:
        options = options | {"init": run.get("init")}
    return commands.command(OPTIONS[run["program"]], stage, out, options)


def _read_card(out: Path, program: str | None) -> dict:
    maker = OPTIONS[program or DetectionOptions.program]
    path, make = out / "run.json", commands.command(maker, "all", out, {})
    card = _read(path, _document, make)
    if card is None:
        raise ReportError(f"{path} is missing; run `{make}` first")
    if card["schema"] != RUN_SCHEMA:
        raise ReportError(
            f"{path} has schema {card['schema']}, this version reads {RUN_SCHEMA}; "
            f"run `{make}` again"
        )
    for key, known in (("program", OPTIONS), ("score", LOSSES)):
        if card[key] not in known:
            raise ReportError(
                f"{path} is corrupt ({key} is {card[key]!r}, not one of {', '.join(known)}); "
                f"run `{make}` again"
            )
    if program is not None and card["program"] != program:
        raise ReportError(
            f"--out {out}: is a run of another program; "
            f"run `{commands.command(OPTIONS[card['program']], 'report', out, {})}`"
        )
    if card["options"].get("unquantised"):
        raise ReportError(
            f"--out {out}: is a run of a float network, which has no widths and no hardware to "
            f"report; its scores are in {out / 'test/result.json'}"
        )
    return card


def _read(path: Path, parse: Callable[[Path], Any], make: str) -> Any:
    """Return parse(path), None without the file; ReportError names the file and the remedy."""
    try:
        return parse(path) if path.exists() else None
    except (*CORRUPT, OSError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        reason = f"no {said}" if isinstance(error, KeyError) else said
        raise ReportError(f"{path} is corrupt ({reason}); run `{make}` again") from error


def _document(path: Path) -> dict:
    document = json.loads(path.read_text())
    name = path.name if path.name == "run.json" else f"{path.parent.name}/{path.name}"
    check(document, DOCUMENTS[name])
    return document


def _result(path: Path, layers: list[str]) -> dict:
    document = _document(path)
    for key in {"bits", "differences"} & set(document):
        if set(document[key]) != set(layers):
            raise ValueError(f"'{key}' is of other layers than run.json")
        document[key] = {layer: document[key][layer] for layer in layers}  # JSON sorted them
    return document


def _lines(path: Path) -> list[dict]:
    """Return the documents of a JSON-lines file; a kill may have cut the last line short."""
    lines = path.read_text().split("\n")
    documents = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            documents.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number}: {error}") from error
    return documents


def _columns(lines: list[dict], keys: tuple[str, ...]) -> Curves:
    return {key: _column(lines, key) for key in keys}


def _column(lines: list[dict], key: str, *shape: int) -> np.ndarray:
    """Return `key` of every line as [T, *shape]; ValueError for another shape."""
    column = np.array([line[key] for line in lines], float)
    if column.shape != (len(lines), *shape):
        raise ValueError(f"'{key}' is {list(column.shape[1:])} a line, not {list(shape)}")
    return column


def _search(path: Path, layers: int, losses: tuple[str, ...]) -> SearchTrace | None:
    if not (lines := _lines(path)):
        return None
    tau = _column(lines, "tau")
    logits = [_column(lines, name, layers, len(WIDTHS)) for name in ("alpha_w", "alpha_a")]
    return SearchTrace(
        _column(lines, "step"),
        _columns(lines, losses),
        *(_columns([line[key] for line in lines], COSTS) for key in ("cost", "argmax_cost")),
        tau,
        *(_softmax(alpha / tau[:, None, None]) for alpha in logits),
        *(_column(lines, name, layers) for name in ("entropy_w", "entropy_a")),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _train(folder: Path, make: str, names: tuple[str, ...]) -> TrainTrace | None:
    losses = _read(folder / "metrics.jsonl", partial(_losses, names=names), make)
    points = _read(folder / "score.jsonl", _score, make) or (np.empty(0), np.empty(0))
    return losses and TrainTrace(*losses, *points)


def _losses(path: Path, names: tuple[str, ...]) -> tuple[Curve, Curves] | None:
    lines = _lines(path)
    return (_column(lines, "step"), _columns(lines, names)) if lines else None


def _score(path: Path) -> tuple[Curve, Curve]:
    lines = _lines(path)
    return _column(lines, "step"), _column(lines, "score")


def _samples(path: Path, classes: int | None) -> Samples:
    """Read answers of a classifier of so many `classes`, or (None) of a detector."""
    with path.open("rb") as file, np.load(file) as arrays:
        found = Samples(*(arrays[field.name] for field in fields(Samples)))
    k, *frame = found.images.shape
    planes = (3,) if classes is None else (1, 3)
    if len(frame) != 3 or frame[2] not in planes or found.images.dtype != np.uint8:
        raise ValueError(f"'images' is {found.images.dtype} {[k, *frame]}, not uint8 [k, H, W, 3]")
    answer = (k, 4) if classes is None else (k,)
    shapes = {"truth": answer, "predicted": answer, "score": (k,), "confidence": (k,)}
    for name, shape in shapes.items():
        if (got := getattr(found, name).shape) != shape:
            raise ValueError(f"'{name}' is {list(got)}, not {list(shape)}")
    if classes is not None:
        for name in ("truth", "predicted"):
            if not np.isin(getattr(found, name), np.arange(classes)).all():
                raise ValueError(f"'{name}' holds labels that are not in 0..{classes - 1}")
    return found
