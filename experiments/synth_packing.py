# SPDX-License-Identifier: Apache-2.0
"""Synthesis of packed words: one DSP each, and what their logic costs beside it.

    nice python -m experiments.synth_packing [--plans 120] [--seed 0] [--out FILE]

draws plans from the packing tables, synthesises a word of every shape with yosys (`synth_xilinx
-family xcup`), fits the LUTs of `hw.packing.cost` to 70 % of the plans and states the error of the
estimate on the others. Needs pyosys (extra `synth`); takes about a quarter of an hour.

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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from hw.packing import PackPlan, table
from hw.packing.cost import Counts, Prices, counts, interval, lut_per_mac, per_mac, shapes
from hw.packing.plan import Word
from hw.packing.verilog import word_verilog

RECORD_VERSION = 1
DSP, KERNELS, BITS = "dsp48e2", (1, 3, 5), range(2, 9)
TRAINING = 0.7  # of the plans
SYNTHESIS = "synth_xilinx -family xcup -noiopad -noclkbuf -top word"
INFERENCE = f"{SYNTHESIS} -flatten -run begin:map_memory"  # up to the multiplications
PLAN_FIELDS = (
    *("kernel", "w_bits", "a_bits", "narrow", "mode", "chain", "known_bits", "folded"),
    *("groups", "columns", "word_steps"),
)
STAGES = ("track", "decode", "constant")
RESULT = Path(__file__).parent / "results" / "packing-synthesis.json"


@dataclass(frozen=True)
class Cells:
    """What a module became: LUTs, CARRY4 blocks (four carry bits each), DSPs."""

    lut: int = 0
    carry4: int = 0
    dsp48e2: int = 0


@dataclass(frozen=True)
class Measurement:
    """A word after synthesis: DSPs of the whole, cells of each of `STAGES`."""

    counts: Counts
    w_port: int
    dsp48e2: int
    stages: dict[str, Cells]

    def luts(self, products: int) -> float:
        """Return LUTs of the word; its decoder serves `products` of them."""
        track, decode, constant = (self.stages[stage].lut for stage in STAGES)
        return track + decode / products + constant


Sample = dict[PackPlan, list[Measurement]]


def draw(count: int, seed: int) -> list[PackPlan]:
    """Draw plans evenly over mode, known bits and folding, as far as they exist."""
    rng = random.Random(seed)
    strata: dict[tuple, list[PackPlan]] = {}
    for kernel, narrow, w_bits, a_bits in product(KERNELS, (False, True), BITS, BITS):
        for plan in table(DSP, kernel, narrow).plans(w_bits, a_bits):
            key = plan.mode, plan.known_bits, plan.folded
            strata.setdefault(key, []).append(plan)
    for plans in strata.values():
        rng.shuffle(plans)
    drawn = []
    while len(drawn) < count and any(strata.values()):
        drawn += [plans.pop() for plans in strata.values() if plans]
    return drawn[:count]


def run_yosys(text: str, flow: str) -> dict[str, list[dict]]:
    """Return the cells of every module of Verilog `text` after the command `flow`."""
    from pyosys import libyosys

    with tempfile.TemporaryDirectory() as folder:
        source, netlist = Path(folder, "word.v"), Path(folder, "word.json")
        source.write_text(text)
        design = libyosys.Design()
        for command in (f"read_verilog {source}", flow, f"write_json {netlist}"):
            libyosys.Pass.call(design, f"tee -q {command}")
        modules = json.loads(netlist.read_text())["modules"]
    return {name: list(module["cells"].values()) for name, module in modules.items()}


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


def measure(plan: PackPlan, word: Word) -> Measurement:
    """Synthesise a word of a plan."""
    modules = run_yosys(word_verilog(plan, plan.words.index(word)), SYNTHESIS)
    cells = {name: count_cells(modules.get(f"word_{name}", [])) for name in STAGES}
    if not counts(plan, word).constant_bits:
        cells["constant"] = Cells()  # C of activations alone is made once for many DSPs
    found = [count_cells(of) for name, of in modules.items() if name.startswith("word")]
    return Measurement(counts(plan, word), word.w_port, sum(one.dsp48e2 for one in found), cells)


def fit(rows: Sequence[Sequence[float]], luts: Sequence[float]) -> list[float]:
    """Return the coefficients of least relative error, in least squares, of measured words."""
    seen = [(row, lut) for row, lut in zip(rows, luts, strict=True) if lut]
    relative = np.array([np.array(row, float) / lut for row, lut in seen])
    return [round(float(c), 3) for c in np.linalg.lstsq(relative, np.ones(len(seen)))[0]]


def track_row(count: Counts, known_bits: int) -> list[int]:
    """Return the counts of `track`, those of known sums in the columns of their t."""
    columns = [0] * 9
    if known_bits > 1:
        first = 3 * (known_bits - 2)
        columns[first : first + 3] = [count.inputs, count.sums, count.lone_bits]
    return [count.xors, *columns, count.compare_bits, count.counter_bits]


def fit_prices(sample: Sample) -> Prices:
    """Fit the prices of `hw.packing.cost` to measured words."""
    words = [(plan, word) for plan, measured in sample.items() for word in measured]

    def stage(name: str, rows: list[list[int]]) -> list[float]:
        return fit(rows, [word.stages[name].lut for _, word in words])

    track = stage("track", [track_row(word.counts, plan.known_bits) for plan, word in words])
    counted = [word.counts for _, word in words]
    decode = stage("decode", [[count.overlap_bits, count.accumulator_bits] for count in counted])
    constant = stage("constant", [[count.constant_bits] for count in counted])
    known = tuple(tuple(track[first : first + 3]) for first in (1, 4, 7))
    return Prices(track[0], known, *track[10:], *decode, *constant)


def split(plans: Sequence[PackPlan], seed: int) -> tuple[list[PackPlan], list[PackPlan]]:
    """Return the plans to fit to and those held out."""
    shuffled = random.Random(seed).sample(plans, len(plans))
    first = round(TRAINING * len(plans))
    return shuffled[:first], shuffled[first:]


def errors(sample: Sample, plans: Iterable[PackPlan], prices: Prices) -> list[float]:
    """Return relative errors of the LUTs per product, of plans that need any."""
    found = []
    for plan in plans:
        measured = per_mac(plan, [word.luts(interval(plan)) for word in sample[plan]])
        if measured:
            found.append(abs(lut_per_mac(plan, prices) / measured - 1))
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return count, median, 90th percentile and maximum."""
    median, p90, most = (round(float(np.quantile(values, q)), 4) for q in (0.5, 0.9, 1.0))
    return {"plans": len(values), "median": median, "p90": p90, "max": most}


def record(sample: Sample, seed: int) -> dict:
    """Return what is written: versions, prices, errors, every plan and word."""
    from pyosys import libyosys

    training, held_out = split(list(sample), seed)
    prices = fit_prices({plan: sample[plan] for plan in training})
    words = [word for measured in sample.values() for word in measured]
    return {
        "version": RECORD_VERSION,
        "yosys": libyosys.yosys_maybe_version(),
        "synthesis": SYNTHESIS,
        "seed": seed,
        "words": len(words),
        "dsp48e2_per_word": dict(Counter(word.dsp48e2 for word in words)),
        "prices": asdict(prices),
        "errors": {
            "training": summary(errors(sample, training, prices)),
            "held_out": summary(errors(sample, held_out, prices)),
        },
        "plans": [
            {
                **{name: getattr(plan, name) for name in PLAN_FIELDS},
                "macs_per_dsp": float(plan.macs_per_dsp),
                "held_out": plan in held_out,
                "lut_per_mac": round(per_mac(plan, [w.luts(interval(plan)) for w in measured]), 3),
                "estimate": round(lut_per_mac(plan, prices), 3),
                "words": [asdict(word) for word in measured],
            }
            for plan, measured in sample.items()
        ],
    }


def main() -> None:
    """Draw, synthesise, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--plans", type=int, default=120, help="how many (default 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and its split")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    sample: Sample = {}
    for plan in draw(given.plans, given.seed):
        sample[plan] = [measure(plan, word) for word in shapes(plan)]
        print(f"{len(sample)}/{given.plans}", end="\r", flush=True)
    found = record(sample, given.seed)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"DSP48E2 per word: {found['dsp48e2_per_word']}; errors: {found['errors']}")
    print(f"prices for hw/packing/cost.py: {found['prices']}")


if __name__ == "__main__":
    main()
