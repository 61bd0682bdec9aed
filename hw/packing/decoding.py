# SPDX-License-Identifier: Apache-2.0
"""Ways to decode a word, and what each of them demands of the word's offsets."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

from hw.device import Dsp
from hw.packing.plan import ZEROS, Mode, PackError, Part, Zero

LONGEST_CHAIN = 1 << 12  # decoding less often than that saves nothing any more
CANARY_CHAINS = (1 << 12, 1 << 8, 1 << 6, 1 << 4)
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
    """How the words of a plan are decoded, see PackPlan; `chain` must at least be possible.

    Only a folded plan may flip the top activation bit: that makes C depend on the weights, which
    plain and centred plans are there to avoid.
    """

    mode: Mode
    known_bits: int
    zero: Zero
    chain: int

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


@cache
def decodings(
    device: Dsp,
    mode: Asked = "best",
    chain: int = 1,
    known_bits: int = MOST_KNOWN_BITS["canary"],
    zero: Zero | None = None,
) -> tuple[Decoding, ...]:
    """Return the decodings of a device, cheapest hardware first.

    `chain`: products that P must hold at least; `known_bits`: at most; `zero`: None for all.
    Raises PackError for an unknown mode, `chain` < 1 or `known_bits` outside 0..4.
    """
    most = max(MOST_KNOWN_BITS.values())
    if mode not in ASKED:
        raise PackError(f"mode '{mode}' is unknown; allowed: {', '.join(ASKED)}")
    if chain < 1:
        raise PackError(f"chain {chain} must be at least 1, the products that P has to hold")
    if not 0 <= known_bits <= most:
        raise PackError(f"known_bits {known_bits} must lie in 0..{most}")
    least = max(chain, device.summed)
    doublings = {1 << n for n in range(1, LONGEST_CHAIN.bit_length())}
    chains: dict[Mode, set[int]] = {
        "every": {1} if least == 1 else set(),
        "chain": {max(least, 2), *(n for n in doublings if n > least)},
        # A canary counts the carries of single products, each with its C.
        "canary": {max(chain, n) for n in CANARY_CHAINS},
    }
    if not device.accumulates:
        chains["chain"] = set()
    if not device.w_mux or device.multipliers > 1:
        chains["canary"] = set()
    return tuple(
        Decoding(name, t, point, length)
        for t in range(known_bits + 1)
        for point in ZEROS
        for name in ("every", "chain", "canary")
        if mode in ("best", name) and t <= MOST_KNOWN_BITS[name] and zero in (None, point)
        if t or name != "canary"
        for length in sorted(chains[name], reverse=True)
    )
