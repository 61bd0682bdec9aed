# SPDX-License-Identifier: Apache-2.0
"""Synthesis of packed words: one DSP each, and what their logic costs beside it.

    nice python -m experiments.synth_packing [--draw 240 --seed 0] [--out FILE]

synthesises a word of every shape of the recorded plans (`--draw`: of plans drawn anew from the
packing tables) with yosys, fits the LUTs of `hw.packing.cost` to half of the plans and states the
error of the estimate on the others. Needs pyosys (extra `synth`); takes about a quarter of an hour.

LUTs of a stage are its LUT1..LUT6 cells and those that only lead a register or port into a carry
chain (a carry input is reached through a LUT); none are merged into a dual-output LUT6. P and its
adder belong to the DSP and are not counted: yosys leaves them outside on this family.
"""

import argparse
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from hw.packing.cost import Counts, Prices, counts, lut_per_mac, per_mac, shapes, sharing
from hw.packing.geometry import Cut
from hw.packing.patterns import Pattern
from hw.packing.plan import PackPlan, Word
from hw.packing.recipe import Cell, Place, Recipe, build
from hw.packing.table import stored_recipes
from hw.packing.verilog import constant_verilog, logic_verilog, product_verilog, word_verilog

RECORD_VERSION = 3
DSP, KERNELS, BITS = "dsp48e2", (1, 3, 5), range(2, 9)
BATCH = 24  # modules in one run: reading the cell library takes seconds
SYNTHESIS = "synth_xilinx -family xcup -noiopad -noclkbuf -top top"
INFERENCE = f"{SYNTHESIS} -flatten -run begin:coarse"  # up to the multiplications
STAGES = ("track", "decode", "constant")
RESULT = Path(__file__).parent / "results" / "packing-synthesis.json"

Source = tuple[Cell, Recipe]


@dataclass(frozen=True)
class Cells:
    """What a module became: LUTs, CARRY4 blocks (four carry bits each), DSPs."""

    lut: int = 0
    carry4: int = 0
    dsp48e2: int = 0


@dataclass(frozen=True)
class Measurement:
    """A word after synthesis: DSPs of the whole (flattened), cells of its stages."""

    counts: Counts
    dsp48e2: int
    track: Cells
    decode: Cells
    constant: Cells

    def luts(self, multipliers: int) -> float:
        """Return LUTs of the word; its decoder serves so many multipliers."""
        return self.track.lut + self.decode.lut / multipliers + self.constant.lut


Sample = dict[Source, list[Measurement]]


# The sample --------------------------------------------------------------------------------------


def draw(count: int, seed: int) -> list[Source]:
    """Draw plans of the tables evenly over mode, known bits and zero point, as they exist."""
    rng = random.Random(seed)
    strata: dict[tuple, list[Source]] = {}
    for kernel, narrow, w_bits, a_bits in product(KERNELS, (False, True), BITS, BITS):
        cell = Cell(DSP, kernel, w_bits, a_bits, narrow)
        for recipe in stored_recipes(cell):
            key = recipe.mode, recipe.known_bits, recipe.zero
            strata.setdefault(key, []).append((cell, recipe))
    for sources in strata.values():
        rng.shuffle(sources)
    drawn: list[Source] = []
    while len(drawn) < count and any(strata.values()):
        drawn += [sources.pop() for sources in strata.values() if sources]
    return drawn[:count]


def split(sources: Iterable[Source]) -> tuple[list[Source], list[Source]]:
    """Return every other source of each mode, t and zero point: to fit to, and held out."""
    halves: tuple[list[Source], list[Source]] = [], []
    seen: Counter = Counter()
    for source in sources:
        key = source[1].mode, source[1].known_bits, source[1].zero
        halves[seen[key] % 2].append(source)
        seen[key] += 1
    return halves


def recorded(found: dict) -> Sample:
    """Return the plans of a record and what was measured of them."""
    return {
        (Cell(**plan["cell"]), recipe_of(plan["recipe"])): [
            Measurement(
                Counts(**word["counts"]),
                word["dsp48e2"],
                *(Cells(**word[stage]) for stage in STAGES),
            )
            for word in plan["words"]
        ]
        for plan in found["plans"]
    }


def recipe_of(row: dict) -> Recipe:
    """Return the recipe of its form in a record, which outlives that of the tables."""
    patterns = (
        Pattern(*(tuple(part) if isinstance(part, list) else part for part in pattern))
        for pattern in row["patterns"]
    )
    places = tuple(Place(*place) for place in row["places"])
    return Recipe(**{**row, "cut": Cut(*row["cut"]), "patterns": tuple(patterns), "places": places})


# Synthesis ---------------------------------------------------------------------------------------


def run_yosys(modules: Mapping[str, str], flow: str) -> dict[str, list[dict]]:
    """Return the cells of modules (text by name) after `flow`; nothing crosses their borders."""
    from pyosys import libyosys

    names = " ".join(modules)
    instances = "".join(f"  (* keep *) {name} {name}_i ();\n" for name in modules)
    with tempfile.TemporaryDirectory() as folder:
        source, netlist = Path(folder, "words.v"), Path(folder, "words.json")
        source.write_text("\n".join([*modules.values(), f"module top;\n{instances}endmodule\n"]))
        design = libyosys.Design()
        for command in (
            f"read_verilog {source}",
            f"setattr -mod -set keep_hierarchy 1 {names}",
            flow,
            f"select {names}",
            f"write_json -selected {netlist}",
        ):
            libyosys.Pass.call(design, f"tee -q {command}")
        found = json.loads(netlist.read_text())["modules"]
    return {name: list(found[name]["cells"].values()) for name in modules}


def count_cells(cells: Sequence[dict]) -> Cells:
    """Count the cells of a netlist in yosys' JSON form."""
    kinds = Counter(cell["type"] for cell in cells)
    luts = [cell for cell in cells if re.fullmatch("LUT[1-6]", cell["type"])]
    driven = {cell["connections"]["O"][0] for cell in luts}
    through = sum(
        isinstance(net, int) and net not in driven
        for cell in cells
        if cell["type"] == "CARRY4"
        for net in cell["connections"]["S"]
    )
    return Cells(len(luts) + through, kinds["CARRY4"], kinds["DSP48E2"])


def batches(items: Sequence) -> Iterator[Sequence]:
    """Yield the items in runs of `BATCH`."""
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


Shape = tuple[PackPlan, Word]


def dsps(words: Sequence[Shape]) -> list[int]:
    """Return the DSPs that every word, flattened, becomes."""
    return _dsps(
        words, "", lambda plan, word, name: word_verilog(plan, plan.words.index(word), name)
    )


def product_dsps(words: Sequence[Shape]) -> list[int]:
    """Return the DSPs of every word without the logic behind P, which multiplies nothing."""
    return _dsps(words, "_product", product_verilog)


def _dsps(
    words: Sequence[Shape], main: str, verilog: Callable[[PackPlan, Word, str], str]
) -> list[int]:
    found = []
    for batch in batches(words):
        named = ((f"word{k}", *shape) for k, shape in enumerate(batch))
        modules = {f"{name}{main}": verilog(plan, word, name) for name, plan, word in named}
        found += [count_cells(cells).dsp48e2 for cells in run_yosys(modules, INFERENCE).values()]
    return found


def stages(plan: PackPlan, word: Word, name: str = "word") -> dict[str, str]:
    """Return the Verilog of what costs LUTs beside every DSP, by stage."""
    logic = logic_verilog(plan, word, name)
    if counts(plan, word).constant_bits:  # C of activations alone is made once for many DSPs
        logic["constant"] = constant_verilog(plan, word, name)
    return logic


Wanted = dict[str, tuple[PackPlan, Word, str]]
"""Stages to synthesise, by their text: a plan, word and stage that it belongs to."""


def wanted(words: Iterable[Shape]) -> Wanted:
    """Return the different stages of words."""
    return {
        text: (plan, word, stage)
        for plan, word in words
        for stage, text in stages(plan, word).items()
    }


def synthesise(asked: Wanted) -> Iterator[dict[str, Cells]]:
    """Yield the cells of stages by their text, batch after batch."""
    for texts in batches(list(asked)):
        modules = {}
        for k, text in enumerate(texts):
            plan, word, stage = asked[text]
            modules[f"word{k}_{stage}"] = stages(plan, word, f"word{k}")[stage]
        yield dict(
            zip(texts, map(count_cells, run_yosys(modules, SYNTHESIS).values()), strict=True)
        )


def measure(
    sources: Sequence[Source], progress: Callable[[str], None] = lambda line: None
) -> Sample:
    """Synthesise a word of every shape of plans; `progress` is told how far it is."""
    plans = {source: build(*source) for source in sources}
    words = [(plan, word) for plan in plans.values() for word in shapes(plan)]
    found: dict[str, Cells] = {}
    for cells in synthesise(wanted(words)):
        found |= cells
        progress(f"{len(found)} stages")
    return sample_of(plans, found, dsps(words))


def sample_of(
    plans: Mapping[Source, PackPlan], found: Mapping[str, Cells], numbers: Sequence[int]
) -> Sample:
    """Return plans with the cells of their stages (by text) and the DSPs of their words."""
    number = iter(numbers)
    sample: Sample = {}
    for source, plan in plans.items():
        sample[source] = []
        for word in shapes(plan):
            cells = {stage: found[text] for stage, text in stages(plan, word).items()}
            logic = (cells.get(stage, Cells()) for stage in STAGES)
            sample[source].append(Measurement(counts(plan, word), next(number), *logic))
    return sample


# Fit and error -----------------------------------------------------------------------------------


def fit(rows: Sequence[Sequence[float]], luts: Sequence[float]) -> list[float]:
    """Return the coefficients of least relative error, in least squares, of measured words."""
    seen = [(row, lut) for row, lut in zip(rows, luts, strict=True) if lut]
    relative = np.array([np.array(row, float) / lut for row, lut in seen])
    return [round(float(c), 3) for c in np.linalg.lstsq(relative, np.ones(len(seen)))[0]]


def track_row(count: Counts, known_bits: int) -> list[int]:
    """Return the counts of `track`, those of known sums in the columns of their t."""
    sums = [0] * 6
    if known_bits > 1:
        first = 2 * (known_bits - 2)
        sums[first : first + 2] = [count.inputs, count.sums]
    return [count.xors, *sums, count.lone_bits, count.compare_bits, count.counter_bits]


def fit_prices(sample: Sample) -> Prices:
    """Fit the prices of `hw.packing.cost` to measured words."""
    words = [(recipe.known_bits, word) for (_, recipe), found in sample.items() for word in found]

    def stage(name: str, rows: list[list[int]]) -> list[float]:
        return fit(rows, [getattr(word, name).lut for _, word in words])

    track = stage("track", [track_row(word.counts, t) for t, word in words])
    counted = [word.counts for _, word in words]
    decode = stage("decode", [[count.overlap_bits, count.accumulator_bits] for count in counted])
    constant = stage("constant", [[count.constant_bits] for count in counted])
    known = tuple(tuple(track[first : first + 2]) for first in (1, 3, 5))
    return Prices(track[0], known, *track[7:], *decode, *constant)


def measured_lut_per_mac(source: Source, words: Sequence[Measurement]) -> float:
    """Return LUTs per product from synthesis."""
    plan = build(*source)
    return per_mac(plan, [word.luts(sharing(plan)) for word in words])


def errors(sample: Sample, sources: Iterable[Source], prices: Prices) -> dict[str, list[float]]:
    """Return relative errors of LUTs per product of plans that need any: all, by mode and t."""
    found: dict[str, list[float]] = {"all": []}
    for source in sources:
        measured = measured_lut_per_mac(source, sample[source])
        if measured:
            error = abs(lut_per_mac(build(*source), prices) / measured - 1)
            mode, t = source[1].mode, source[1].known_bits
            for key in ("all", mode, f"{mode} t={t}"):
                found.setdefault(key, []).append(error)
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return count, median, 90th percentile and maximum."""
    median, p90, most = (round(float(np.quantile(values, q)), 4) for q in (0.5, 0.9, 1.0))
    return {"plans": len(values), "median": median, "p90": p90, "max": most}


# Record ------------------------------------------------------------------------------------------


def record(sample: Sample, seed: int, yosys: str) -> dict:
    """Return what is written: versions, commands, prices, errors, every plan and word."""
    training, held_out = split(sample)
    prices = fit_prices({source: sample[source] for source in training})
    words = [word for measured in sample.values() for word in measured]
    return {
        "version": RECORD_VERSION,
        "yosys": yosys,
        "synthesis": SYNTHESIS,
        "inference": INFERENCE,
        "seed": seed,
        "words": len(words),
        "dsp48e2_per_word": dict(Counter(word.dsp48e2 for word in words)),
        "prices": asdict(prices),
        "errors": {
            name: {key: summary(found) for key, found in sorted(errors(sample, of, prices).items())}
            for name, of in (("training", training), ("held_out", held_out))
        },
        "plans": [
            plan_record(source, words, source in held_out, prices)
            for source, words in sample.items()
        ],
    }


def plan_record(
    source: Source, words: Sequence[Measurement], held_out: bool, prices: Prices
) -> dict:
    """Return what is written of a plan: how to build it, what it became, the estimate."""
    cell, recipe = source
    made = {
        "cut": astuple(recipe.cut),
        "patterns": [astuple(pattern) for pattern in recipe.patterns],
        "places": [astuple(place) for place in recipe.places],
    }
    return {
        "cell": asdict(cell),
        "recipe": {**asdict(recipe), **made},
        "held_out": held_out,
        "lut_per_mac": round(measured_lut_per_mac(source, words), 3),
        "estimate": lut_per_mac(build(*source), prices),
        "words": [asdict(word) for word in words],
    }


def as_text(found: dict) -> str:
    """Return a record as JSON, a plan a line."""
    plans = ",\n".join(json.dumps(plan, separators=(",", ":")) for plan in found["plans"])
    head = json.dumps({key: value for key, value in found.items() if key != "plans"}, indent=1)
    return f'{head.removesuffix("}").rstrip()},\n "plans": [\n{plans}\n]}}\n'


def main() -> None:
    """Draw or read, synthesise, fit, write."""
    from pyosys import libyosys

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draw", type=int, help="draw this many plans from the tables")
    parser.add_argument("--seed", type=int, default=0, help="of the plans drawn (default 0)")
    parser.add_argument("--out", type=Path, default=RESULT, help="default: the committed record")
    given = parser.parse_args()
    if given.draw is None:
        old = json.loads(RESULT.read_text())
        sources, seed = list(recorded(old)), old["seed"]
    else:
        sources, seed = draw(given.draw, given.seed), given.seed
    sample = measure(sources, lambda line: print(line, end="\r", flush=True))
    found = record(sample, seed, libyosys.yosys_maybe_version())
    given.out.write_text(as_text(found))
    print(f"DSP48E2 per word: {found['dsp48e2_per_word']}; held out: {found['errors']['held_out']}")
    print(f"prices for hw/packing/cost.py: {found['prices']}")


if __name__ == "__main__":
    main()
