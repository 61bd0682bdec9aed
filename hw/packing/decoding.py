# SPDX-License-Identifier: Apache-2.0
"""Ways to decode a word, and what each of them demands of the word's offsets."""

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

from hw.device import Dsp
from hw.packing.plan import ZEROS, Mode, PackError, Part, Zero

LONGEST_CHAIN = 1 << 12  # decoding less often than that saves nothing any more
COARSE_CHAIN = 1 << 8  # a usual reduction: longer chains are told apart by factors of two
LEAST_CANARY = 1 << 4  # products; canaries are there for long sums
MOST_KNOWN_BITS = {"every": 2, "chain": 2, "canary": 4}
ANY_PART = 2  # known bits that every slice may give, even one of a single bit

Asked = Literal["best", "every", "chain", "canary"]
ASKED: tuple[Asked, ...] = get_args(Asked)


@dataclass(frozen=True)
class Rules:
    """What a legal word of one decoding has to obey.

    `gaps[n-1]`: bits from a field of n products to the next one; `highest`: greatest offset of a
    field. `w_flush`: whether the port trick w_add may be used; a_sub follows from `zero`.
    """

    gaps: tuple[int, ...]
    highest: int
    w_flush: bool
    zero: Zero


@dataclass(frozen=True)
class Decoding:
    """How the words of a plan are decoded, see PackPlan; `chain` products must fit into P.

    Only a folded plan may flip the top activation bit: that makes C depend on the weights, which
    plain and centred plans are there to avoid.
    """

    mode: Mode
    known_bits: int
    zero: Zero
    chain: int

    @property
    def family(self) -> tuple[Mode, int, Zero]:
        """Everything but the chain."""
        return self.mode, self.known_bits, self.zero

    def gap_bits(self, spread: int) -> int:
        """Return the least distance from a field of `spread` per product to the next field.

        A canary's lane passes on as many carries as it takes in; that the lowest takes in none
        would help words of one lane on a port alone.
        """
        t = self.known_bits
        if self.mode == "canary":  # no lane takes more than 2^t - 1 carries, spread + 2^t - 1 in
            most = (1 << t) - 1
            return max(t, (-(-spread // most)).bit_length())
        return max(t, 1, (self.chain * spread).bit_length() - t)

    def rules(self, device: Dsp, part: Part, taps: int) -> Rules:
        """Return the rules of words of `taps` taps of a part."""
        spread = part.spread(self.zero)
        return Rules(
            tuple(self.gap_bits(terms * spread) for terms in range(1, taps + 1)),
            min(
                device.p_bits - (self.chain * spread).bit_length(),
                device.wide_bits + device.narrow_bits,
            ),
            device.w_mux or self.mode == "every",
            self.zero,
        )

    def suits(self, part: Part) -> bool:
        """Tell whether both slices have the bits that the known ones are taken from.

        Shorter ones would be exact too, but then the known bits are nearly the whole product.
        """
        return self.known_bits <= max(ANY_PART, min(part.w_bits, part.a_bits))


def ladder(way: Decoding, part: Part, kernel: int) -> tuple[Decoding, ...]:
    """Return `way` with the greatest chains that words of a part can hold by each set of gaps.

    A field of n products grows by a bit as soon as its chain passes (2^bits - 1) // (n spread), so
    that words for any other chain are those for the next one here. From `way.chain` to the first
    one that is not below LONGEST_CHAIN; beyond COARSE_CHAIN those of n = 1 only.
    """
    spread = part.spread(way.zero)
    if way.mode == "every" or not spread:
        return (way,)
    last = max(way.chain, LONGEST_CHAIN)
    terms = range(1, kernel + 1) if way.mode == "chain" else (1,)
    longest = (2 * last * kernel * spread).bit_length()
    greatest = ((n, ((1 << k) - 1) // (n * spread)) for k in range(1, longest + 1) for n in terms)
    chains = sorted({chain for n, chain in greatest if n == 1 or chain <= COARSE_CHAIN})
    first, end = bisect_left(chains, way.chain), bisect_left(chains, last)
    return tuple(replace(way, chain=chain) for chain in chains[first : end + 1])


@cache
def decodings(
    device: Dsp,
    mode: Asked = "best",
    chain: int = 1,
    known_bits: int = MOST_KNOWN_BITS["canary"],
    zero: Zero | None = None,
) -> tuple[Decoding, ...]:
    """Return the decodings of a device with the shortest chains they may have.

    `chain`: products that P must hold at least; `known_bits`: at most; `zero`: None for all.
    Raises PackError for an unknown mode, `chain` < 1 or `known_bits` outside 0..4.
    """
    most = max(MOST_KNOWN_BITS.values())
    if mode not in ASKED:
        raise PackError(f"mode '{mode}' is unknown; allowed: {', '.join(ASKED)}")
    if zero not in (None, *ZEROS):
        raise PackError(f"zero point '{zero}' is unknown; allowed: {', '.join(ZEROS)}")
    if chain < 1:
        raise PackError(f"chain {chain} must be at least 1, the products that P has to hold")
    if not 0 <= known_bits <= most:
        raise PackError(f"known_bits {known_bits} must lie in 0..{most}")
    least = max(chain, device.summed)
    chains: dict[Mode, int] = {}
    if least == 1:
        chains["every"] = 1
    if device.accumulates:
        chains["chain"] = max(least, 2)
    if device.w_mux and device.multipliers == 1:  # it counts the carries of single products
        chains["canary"] = max(chain, LEAST_CANARY)
    return tuple(
        Decoding(name, t, point, length)
        for t in range(known_bits + 1)
        for point in ZEROS
        for name, length in chains.items()
        if mode in ("best", name) and t <= MOST_KNOWN_BITS[name] and zero in (None, point)
        if t or name != "canary"
    )
