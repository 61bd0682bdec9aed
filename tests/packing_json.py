# SPDX-License-Identifier: Apache-2.0
"""A checker of plans that reads nothing but their JSON: form, coverage, and exact decoding.

It shares no code with `hw`: words are built, multiplied, accumulated and decoded here in Python's
integers, from the description in docs/packing.md.
"""

from functools import cache
from itertools import pairwise, product
from random import Random

P_BITS = 48  # DSP48E2


def check_form(plan: dict) -> None:
    """Assert that the words hold every product of every part once, in fields of one output."""
    tile = sorted(product(range(plan["groups"]), range(plan["kernel"]), range(plan["columns"])))
    parts = ["whole"] if plan["split"] is None else ["low", "high"]
    covered = {part: [] for part in parts}
    for word in plan["words"]:
        assert sorted((word["w_port"], word["a_port"])) == [18, 27]
        assert word["c_port_flush"] == (word["w_add"] != 0)
        assert word["msb_flip"] == (word["a_sub"] != 0)
        covered[word["part"]] += [
            (group, tap, column)
            for (group, tap), (_, column) in product(word["w_labels"], word["a_labels"])
        ]
        check_fields(word)
    for part in parts:
        assert sorted(covered[part]) == tile
    rate = plan["kernel"] * plan["groups"] * plan["columns"] / len(plan["words"])
    assert plan["macs_per_dsp"] == rate


def check_fields(word: dict) -> None:
    """Assert that a word's fields hold every pair of lanes once and agree on output and offset."""
    lanes = product(range(len(word["w_offsets"])), range(len(word["a_offsets"])))
    terms = sorted(tuple(term) for field in word["fields"] for term in field["terms"])
    assert terms == sorted(lanes)
    offsets = [field["offset"] for field in word["fields"]]
    assert offsets == sorted(set(offsets))
    for field in word["fields"]:
        sums = {word["w_offsets"][i] + word["a_offsets"][j] for i, j in field["terms"]}
        assert sums == {field["offset"]}
        outputs = {output(word, term) for term in field["terms"]}
        assert len(outputs) == 1


def output(word: dict, term: list[int]) -> tuple[int, int, int]:
    """Return (group, row, column - tap) of a product."""
    (group, tap), (row, column) = word["w_labels"][term[0]], word["a_labels"][term[1]]
    return group, row, column - tap


def check_sums(plan: dict, random: Random, products: int) -> None:
    """Assert that `products` random tiles, summed in P, decode to the true outputs."""
    tiles = [random_tile(plan, random) for _ in range(products)]
    wanted: dict[tuple, int] = {}
    for weights, acts in tiles:
        for (group, tap), (column, act) in product(weights, enumerate(acts)):
            place = group, 0, column - tap
            wanted[place] = wanted.get(place, 0) + weights[group, tap] * act
    assert decoded_tile(plan, tiles) == wanted


def random_tile(plan: dict, random: Random) -> tuple[dict[tuple[int, int], int], list[int]]:
    """Return weights by (group, tap) and activations by column; extreme ones reach the bounds."""
    ends = random.random() < 0.6

    def draw(low: int, high: int) -> int:
        return random.choice((low, high)) if ends else random.randint(low, high)

    lanes = product(range(plan["groups"]), range(plan["kernel"]))
    weights = {lane: draw(*weight_range(plan)) for lane in lanes}
    return weights, [draw(0, 2 ** plan["a"] - 1) for _ in range(plan["columns"])]


def decoded_tile(plan: dict, tiles: list) -> dict[tuple, int]:
    """Return the outputs that the plan's words give for the tiles, by output."""
    found: dict[tuple, int] = {}
    for word in plan["words"]:
        operands = [
            (
                [w_slice(plan, word, weights[tuple(label)]) for label in word["w_labels"]],
                [a_slice(plan, word, acts[column]) for _, column in word["a_labels"]],
            )
            for weights, acts in tiles
        ]
        for field, value in zip(word["fields"], decoded(plan, word, operands), strict=True):
            place = output(word, field["terms"][0])
            found[place] = found.get(place, 0) + (value << shift(plan, word))
    return found


def weight_range(plan: dict) -> tuple[int, int]:
    half = 2 ** (plan["w"] - 1)
    return -half + plan["narrow"], half - 1


def w_slice(plan: dict, word: dict, weight: int) -> int:
    split = plan["split"]
    if split is None or split["operand"] == "a":
        return weight
    bits, half = split["low_bits"], 2 ** (split["low_bits"] - 1) * split["signed_low"]
    high = (weight + half) >> bits
    return high if word["part"] == "high" else weight - (high << bits)


def a_slice(plan: dict, word: dict, act: int) -> int:
    split = plan["split"]
    if split is None or split["operand"] == "w":
        return act
    bits = split["low_bits"]
    return act >> bits if word["part"] == "high" else act & (2**bits - 1)


def shift(plan: dict, word: dict) -> int:
    return plan["split"]["low_bits"] if word["part"] == "high" else 0


def decoded(plan: dict, word: dict, operands: list) -> list[int]:
    """Return the sums of all fields: P in pieces of `chain` products, decoded, plus constants."""
    sums = [0] * len(word["fields"])
    for first in range(0, len(operands), plan["chain"]):
        piece = operands[first : first + plan["chain"]]
        read = canary if plan["mode"] == "canary" else sliced
        sums = [a + b for a, b in zip(sums, read(plan, word, piece), strict=True)]
    for weights, _ in operands:
        for index, field in enumerate(word["fields"]):
            sums[index] += sum(least(plan, word, weights[i]) for i, _ in field["terms"])
    return sums


def least(plan: dict, word: dict, weight: int) -> int:
    """Return z: the zero point of this weight."""
    split = plan["split"] and tuple(plan["split"].items())
    lowest, highest, greatest = bounds(plan["w"], plan["a"], plan["narrow"], split, word["part"])
    if plan["zero"] != "centred":
        return greatest * min(0, weight if plan["zero"] == "folded" else lowest)
    centre = (greatest + 1) // 2
    products = ((w, a - centre) for w in (lowest, highest) for a in (0, greatest))
    return centre * weight + min(w * a for w, a in products)


@cache
def bounds(w: int, a: int, narrow: bool, split: tuple | None, part: str) -> tuple[int, int, int]:
    """Return the least and the greatest weight slice of a part, its greatest activation."""
    plan = {"w": w, "a": a, "narrow": narrow, "split": split and dict(split)}
    low, high = weight_range(plan)
    weights = [w_slice(plan, {"part": part}, weight) for weight in range(low, high + 1)]
    greatest = max(a_slice(plan, {"part": part}, act) for act in range(2**a))
    return min(weights), max(weights), greatest


def increment(plan: dict, word: dict, weights: list[int], acts: list[int]) -> int:
    """Return what one product adds to P: the multiplication of the ports, and C."""
    w_word = sum(w << o for w, o in zip(weights, word["w_offsets"], strict=True))
    a_word = sum(a << o for a, o in zip(acts, word["a_offsets"], strict=True))
    w_port, a_port = w_word + word["w_add"], a_word - word["a_sub"]
    assert -(2 ** (word["w_port"] - 1)) <= w_port < 2 ** (word["w_port"] - 1)
    assert -(2 ** (word["a_port"] - 1)) <= a_port < 2 ** (word["a_port"] - 1)
    ones = sum(1 << o for o in word["a_offsets"])
    zeros = zip(weights, word["w_offsets"], strict=True)
    folded = sum(-least(plan, word, w) << o for w, o in zeros) * ones
    return w_port * a_port - word["w_add"] * a_port + word["a_sub"] * w_word + folded


def known(plan: dict, word: dict, weights: list[int], acts: list[int]) -> list[int]:
    """Return the t low bits of every field of one product."""
    return [
        sum(weights[i] * acts[j] - least(plan, word, weights[i]) for i, j in field["terms"])
        % 2 ** plan["t"]
        for field in word["fields"]
    ]


def sliced(plan: dict, word: dict, operands: list) -> list[int]:
    """Return the fields of one P, read from low to high with the known bits of the next one."""
    p = sum(increment(plan, word, *pair) for pair in operands) % 2**P_BITS
    low = [known(plan, word, *pair) for pair in operands]
    sums = []
    for index, field in enumerate(word["fields"]):
        value = p >> field["offset"]
        if index + 1 < len(word["fields"]):
            gap = word["fields"][index + 1]["offset"] - field["offset"]
            value -= (sum(bits[index + 1] for bits in low) % 2 ** plan["t"]) << gap
        sums.append(value % 2 ** field["bits"])
        p = (p - (sums[-1] << field["offset"])) % 2**P_BITS
    return sums


def canary(plan: dict, word: dict, operands: list) -> list[int]:
    """Return the fields of one P whose lanes overflow, with the carries counted in every cycle."""
    offsets = [*(field["offset"] for field in word["fields"]), P_BITS]
    p, carries = 0, [0] * len(offsets)
    for pair in operands:
        after = (p + increment(plan, word, *pair)) % 2**P_BITS
        for k, bits in enumerate(known(plan, word, *pair)[1:], 1):
            seen = (after >> offsets[k]) - (p >> offsets[k]) - bits
            carries[k] += seen % 2 ** plan["t"]
        p = after
    carries[-1] = 0  # the top lane is read modulo its width
    sums = []
    for k, (at, above) in enumerate(pairwise(offsets)):
        lane = (p >> at) % 2 ** (above - at)
        value = lane + (carries[k + 1] << (above - at)) - carries[k]
        sums.append(value % 2 ** (above - at) if above == P_BITS else value)
    return sums
