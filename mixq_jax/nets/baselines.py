# SPDX-License-Identifier: Apache-2.0
"""Fixed widths and quantisers that others have published for these networks."""

from dataclasses import dataclass

from mixq_jax.spec import OURS, QuantSpec

# The quantisers of the contest's teams (Zhou et al., 2016): codes of [-1, 1] and of [0, 1], pixels
# p / 255, the confidence summed as it leaves the head.
CONTEST = QuantSpec(True, "dorefa", "dorefa", 255)
# The form in which DeepBurning-MixQ trains the same networks: steps are powers of two.
DOREFA = QuantSpec(False, "dorefa", "dorefa_shift", 256)
# DeepBurning-MixQ's own: steps in units of the deviation, full range.
MIXQ = QuantSpec(False, "reference", "reference", 256)
QUANTISERS = {"ours": OURS, "mixq": MIXQ, "dorefa": DOREFA, "contest": CONTEST}


@dataclass(frozen=True)
class Baseline:
    """Digits of the widths of a published network, one a layer, and its quantisers."""

    net: str
    w: str
    a: str
    quant: QuantSpec
    source: str


BASELINES = {
    "bjtu": Baseline("ultranet", "4" * 9, "8" + "4" * 8, CONTEST, "DAC-SDC 2020, first place"),
    "bjtu_bypass": Baseline(
        "ultranet_bypass", "4" * 9, "8" + "4" * 8, CONTEST, "the same team's bypass variant"
    ),
    "ismart": Baseline(
        "ultranet", "8" + "4" * 7 + "8", "8" + "4" * 8, DOREFA, "iSmart, as DeepBurning-MixQ has it"
    ),
    "mixq_ultranet": Baseline("ultranet", "532555558", "733677665", MIXQ, "DeepBurning-MixQ"),
    "mixq_skynet": Baseline("skynet", "8765658583688", "8883878575556", MIXQ, "DeepBurning-MixQ"),
    "skynet_w5a8": Baseline("skynet", "5" * 13, "8" * 13, MIXQ, "DeepBurning-MixQ's baseline"),
}
