# SPDX-License-Identifier: Apache-2.0
"""What the stages of a run wrote, read and checked; nothing is computed or drawn here."""

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from experiments.options import Options
from experiments.report.colours import WIDTHS
from experiments.report.shapes import DOCUMENTS, check

STAGES = ("search", "train", "test", "export", "simulate")
RUN_SCHEMA = 1

Curves = Mapping[str, np.ndarray]  # name -> float64 [T]


class ReportError(ValueError):
    """A file of a run that cannot be read; the message names it and the command that makes it."""


@dataclass(frozen=True, eq=False)
class SearchTrace:
    """T recorded steps of a search over L layers; probabilities are over widths 2..8.

    `cost` is expected under the probabilities, `argmax_cost` at the likeliest widths, both in
    64 x work / MACs of layer 0. Entropies are in nats.
    """

    step: np.ndarray  # [T]
    losses: Curves
    cost: Curves
    argmax_cost: Curves
    tau: np.ndarray  # [T]
    probability_w: np.ndarray  # [T, L, 7]
    probability_a: np.ndarray  # [T, L, 7]
    entropy_w: np.ndarray  # [T, L]
    entropy_a: np.ndarray  # [T, L]


@dataclass(frozen=True, eq=False)
class TrainTrace:
    """T recorded steps of training; IoU [E] of the quantised network after `iou_step` [E] steps."""

    step: np.ndarray
    losses: Curves
    iou_step: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True, eq=False)
class Detections:
    """k test frames: BGR bytes [k, H, W, 3], boxes (cx, cy, w, h) in units of the frame [k, 4]."""

    images: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    iou: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True, eq=False)
class RunRecord:
    """Everything a report shows. `results` holds result.json of each stage that finished."""

    out: Path
    run: Mapping[str, Any]
    results: Mapping[str, Mapping[str, Any]]
    search: SearchTrace | None
    train: TrainTrace | None
    detections: Detections | None

    def result(self, stage: str) -> Mapping[str, Any] | None:
        return self.results.get(stage)

    @property
    def missing(self) -> tuple[str, ...]:
        """Stages without a result, in the order they run."""
        return tuple(stage for stage in STAGES if stage not in self.results)

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(self.run["network"]["layers"])

    def command(self, stage: str) -> str:
        return command(stage, self.out, self.run["options"])


def command(stage: str, out: Path, options: Mapping[str, Any]) -> str:
    """Return the command line of a stage with those `options` that are not the defaults."""
    words = ["python -m experiments.dacsdc", stage, f"--out {out}"]
    for field in fields(Options):
        value = options.get(field.name)
        if field.name == "out" or value is None or value == field.default:
            continue
        flag = field.name.replace("_", "-")
        on_off = {True: f"--{flag}", False: f"--no-{flag}"}
        words.append(on_off[value] if isinstance(value, bool) else f"--{flag} {value}")
    return " ".join(words)


def read_run(out: Path) -> RunRecord:
    """Read the folder of a run; a stage that is absent is left out.

    Raises ReportError for a missing run.json and for a file that is corrupt.
    """
    run = _read_card(out)
    make = {stage: command(stage, out, run["options"]) for stage in STAGES}
    results = {stage: _read_result(out, stage, make[stage]) for stage in STAGES}
    layers = len(run["network"]["layers"])
    return RunRecord(
        out,
        run,
        {stage: result for stage, result in results.items() if result is not None},
        _read(out / "search/metrics.jsonl", lambda path: _search(path, layers), make["search"]),
        _train(out / "train", make["train"]),
        _read(out / "test/detections.npz", _detections, make["test"]),
    )


def _read_card(out: Path) -> dict:
    path, make = out / "run.json", command("all", out, {})
    card = _read(path, _document, make)
    if card is None:
        raise ReportError(f"{path} is missing; run `{make}` first")
    if card["schema"] != RUN_SCHEMA:
        raise ReportError(
            f"{path} has schema {card['schema']}, this version reads {RUN_SCHEMA}; "
            f"run `{make}` again"
        )
    return card


def _read_result(out: Path, stage: str, make: str) -> dict | None:
    return _read(out / stage / "result.json", _document, make)


def _read(path: Path, parse: Callable[[Path], Any], make: str) -> Any:
    """Return parse(path), None without the file; ReportError names the file and the remedy."""
    try:
        return parse(path) if path.exists() else None
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ReportError(f"{path} is corrupt ({reason}); run `{make}` again") from error


def _document(path: Path) -> dict:
    document = json.loads(path.read_text())
    name = path.name if path.name == "run.json" else f"{path.parent.name}/{path.name}"
    check(document, DOCUMENTS[name])
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


def _column(lines: list[dict], key: str, *shape: int) -> np.ndarray:
    """Return `key` of every line as [T, *shape]; ValueError for another shape."""
    column = np.array([line[key] for line in lines], float)
    if column.shape != (len(lines), *shape):
        raise ValueError(f"'{key}' is {list(column.shape[1:])} a line, not {list(shape)}")
    return column


def _columns(lines: list[dict], key: str) -> Curves:
    parts = [line[key] for line in lines]
    return {name: _column(parts, name) for name in parts[0]}


def _search(path: Path, layers: int) -> SearchTrace | None:
    if not (lines := _lines(path)):
        return None
    tau = _column(lines, "tau")
    logits = [_column(lines, name, layers, len(WIDTHS)) for name in ("alpha_w", "alpha_a")]
    return SearchTrace(
        _column(lines, "step"),
        {name: _column(lines, name) for name in ("total", "task", "box", "objectness")},
        _columns(lines, "cost"),
        _columns(lines, "argmax_cost"),
        tau,
        *(_softmax(alpha / tau[:, None, None]) for alpha in logits),
        *(_column(lines, name, layers) for name in ("entropy_w", "entropy_a")),
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _train(folder: Path, make: str) -> TrainTrace | None:
    losses = _read(folder / "metrics.jsonl", _losses, make)
    points = _read(folder / "iou.jsonl", _iou, make) or (np.empty(0), np.empty(0))
    return losses and TrainTrace(*losses, *points)


def _losses(path: Path) -> tuple[np.ndarray, Curves] | None:
    if not (lines := _lines(path)):
        return None
    return _column(lines, "step"), {
        name: _column(lines, name) for name in ("total", "box", "objectness")
    }


def _iou(path: Path) -> tuple[np.ndarray, np.ndarray]:
    lines = _lines(path)
    return _column(lines, "step"), _column(lines, "iou")


def _detections(path: Path) -> Detections:
    with np.load(path) as arrays:
        found = Detections(*(arrays[field.name] for field in fields(Detections)))
    k = len(found.images)
    wanted = {"images": 4, "truth": 2, "predicted": 2, "iou": 1, "confidence": 1}
    for name, rank in wanted.items():
        array = getattr(found, name)
        if array.ndim != rank or len(array) != k:
            raise ValueError(f"'{name}' is {list(array.shape)}, not rank {rank} of {k} frames")
    return found
