# SPDX-License-Identifier: Apache-2.0
"""Writes checkpoints of small networks and what PyTorch computes with them.

`python tests/golden/torch_checkpoints.py` (needs PyTorch) makes tests/golden/torch/<case>.pt and
<case>.npz (images `[N, H, W, 3]` of bytes, logits `[N, H', W', M]`). Networks and quantisers are
written down here once more, from their descriptions, in PyTorch's terms.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

FOLDER = Path(__file__).parent / "torch"
HEIGHT, WIDTH, SIDE = 32, 64, 16
WIDTHS = range(2, 9)
WEIGHT_UNITS = dict(zip(WIDTHS, (0.996, 0.586, 0.336, 0.190, 0.106, 0.059, 0.032), strict=True))
ACT_STEPS = dict(zip(WIDTHS, (0.538, 0.3217, 0.185, 0.104, 0.058, 0.033, 0.019), strict=True))


class MixqFamily:
    """DeepBurning-MixQ: steps in units of the deviation, fixed activation steps, top image bits."""

    def image(self, pixels, bits):
        return torch.floor(pixels / 256 * 2**bits) / 2**bits

    def act(self, x, bits):
        step = ACT_STEPS[bits]
        return torch.round(torch.clamp(x, 0, step * (2**bits - 1)) / step) * step

    def weight(self, w, bits):
        step = WEIGHT_UNITS[bits] * w.std()
        return torch.clamp(torch.round(w / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step


class ContestFamily:
    """DoReFa of the contest's teams: 2^b levels over [0, 1], 2^b - 1 over [-1, 1], pixels / 255."""

    def image(self, pixels, bits):
        return pixels / 255

    def act(self, x, bits):
        levels = 2**bits - 1
        return torch.round(torch.clamp(x, 0, 1) * levels) / levels

    def weight(self, w, bits):
        levels = 2 ** (bits - 1) - 1
        t = torch.tanh(w) / torch.tanh(w).abs().max()
        return torch.round(t * levels) / levels


class DorefaFamily(ContestFamily):
    """DoReFa with steps that are powers of two, full-range weights, pixels / 256."""

    def image(self, pixels, bits):
        return pixels / 256

    def act(self, x, bits):
        return torch.clamp(torch.round(torch.clamp(x, 0, 1) * 2**bits), max=2**bits - 1) / 2**bits

    def weight(self, w, bits):
        half = 2 ** (bits - 1)
        t = torch.tanh(w) / torch.tanh(w).abs().max()
        return torch.clamp(torch.round(t * half), -half, half - 1) / half


class FloatFamily:
    """No quantiser: ReLU, or ReLU6."""

    def __init__(self, top: float | None = None):
        self.top = top

    def image(self, pixels, bits):
        return pixels / 256

    def act(self, x, bits):
        return torch.clamp(x, 0, self.top)

    def weight(self, w, bits):
        return w


class Unit(nn.Module):
    """Quantise the input, convolve with quantised weights, (pool,) normalise."""

    def __init__(
        self, family, shape, w, a, image=False, norm=True, bias=False, groups=1, pooled=False
    ):
        super().__init__()
        fan_in, out, kernel = shape
        self.family, self.bits, self.reads_image = family, (w, a), image
        self.pooled = pooled
        self.conv = nn.Conv2d(fan_in, out, kernel, padding=kernel // 2, bias=bias, groups=groups)
        self.bn = nn.BatchNorm2d(out) if norm else nn.Identity()

    def forward(self, x):
        w, a = self.bits
        x = self.family.image(x, a) if self.reads_image else self.family.act(x, a)
        weight = self.family.weight(self.conv.weight, w)
        padding, groups = self.conv.padding, self.conv.groups
        y = functional.conv2d(x, weight, self.conv.bias, padding=padding, groups=groups)
        return self.bn(functional.max_pool2d(y, 2) if self.pooled else y)


class Plain(nn.Module):
    """UltraNet, with `bypass` around its convolutions 4 to 6."""

    def __init__(self, family, w, a, bypass=False, channels=(4, 6, 8, 8, 8, 8, 8, 8)):
        super().__init__()
        self.bypass = bypass
        ins = [3, *channels[:-1]]
        if bypass:
            ins[7] = 4 * channels[3] + channels[6]
        units = [
            Unit(family, (c, m, 3), w[i], a[i], image=i == 0)
            for i, (c, m) in enumerate(zip(ins, channels, strict=True))
        ]
        head = Unit(family, (channels[-1], 36, 1), w[8], a[8], norm=False, bias=True)
        self.layers = nn.ModuleList([*units, head])

    def forward(self, x):
        kept = None
        for i, unit in enumerate(self.layers):
            if i == 7 and self.bypass:
                x = torch.cat([space_to_depth(kept), x], 1)
            x = unit(x)
            if i == 3:
                kept = x
            if i < 4:
                x = functional.max_pool2d(x, 2)
        return x


def space_to_depth(x):
    n, c, h, w = x.shape
    blocks = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, 4 * c, h // 2, w // 2)


class Sky(nn.Module):
    """SkyNet: depthwise and pointwise convolutions in turn."""

    def __init__(self, family, w, a, kernel=3, channels=(4, 8, 8, 12, 16, 8)):
        super().__init__()
        units, fan_in = [], 3
        for i, out in enumerate(channels):
            units.append(
                Unit(family, (fan_in, fan_in, kernel), w[2 * i], a[2 * i], i == 0, groups=fan_in)
            )
            units.append(Unit(family, (fan_in, out, 1), w[2 * i + 1], a[2 * i + 1]))
            fan_in = out
        units.append(Unit(family, (fan_in, 36, 1), w[12], a[12], norm=False))
        self.layers = nn.ModuleList(units)

    def forward(self, x):
        for i, unit in enumerate(self.layers):
            x = unit(x)
            if i in (1, 3, 5):
                x = functional.max_pool2d(x, 2)
        return x


class Vgg(nn.Module):
    """VGG_tiny with its dense classifier of 8 bits; the float one pools before the norms."""

    def __init__(self, family, w, a, channels=(4, 4, 6, 6, 8, 8)):
        super().__init__()
        self.family, self.pool_first = family, isinstance(family, FloatFamily)
        ins = [3, *channels[:-1]]
        self.layers = nn.ModuleList(
            Unit(
                *(family, (c, m, 3), w[i], a[i]),
                image=i == 0,
                pooled=self.pool_first and i % 2 == 1,
            )
            for i, (c, m) in enumerate(zip(ins, channels, strict=True))
        )
        self.classifier = nn.Linear(channels[-1] * (SIDE // 8) ** 2, 10)
        if self.pool_first:  # by default the bias outweighs what the images contribute
            nn.init.normal_(self.classifier.weight)

    def forward(self, x):
        for i, unit in enumerate(self.layers):
            x = unit(x)
            if i % 2 and not self.pool_first:
                x = functional.max_pool2d(x, 2)
        x = self.family.act(x.flatten(1), 8)
        weight = self.family.weight(self.classifier.weight, 8)
        return functional.linear(x, weight, self.classifier.bias)[:, :, None, None]


W9, A9, W13, A13 = "532555558", "733677665", "8765658583688", "8883878575556"
CASES: dict[str, tuple[Callable, type | FloatFamily, str, str]] = {
    "ultranet_mixq": (Plain, MixqFamily(), W9, A9),
    "ultranet_contest": (Plain, ContestFamily(), "4" * 9, "8" + "4" * 8),
    "ultranet_dorefa": (Plain, DorefaFamily(), "8" + "4" * 7 + "8", "8" + "4" * 8),
    "ultranet_float": (Plain, FloatFamily(), "8" * 9, "8" * 9),
    "bypass_contest": (
        lambda *given: Plain(*given, bypass=True),
        ContestFamily(),
        "4" * 9,
        "8" + "4" * 8,
    ),
    "skynet_mixq": (Sky, MixqFamily(), W13, A13),
    "skynet_float": (Sky, FloatFamily(6.0), "8" * 13, "8" * 13),
    "skynet_k5_mixq": (lambda *given: Sky(*given, kernel=5), MixqFamily(), W13, A13),
    "vgg_mixq": (Vgg, MixqFamily(), "345678", "834567"),
    "vgg_float": (Vgg, FloatFamily(), "8" * 6, "8" * 6),
}
LEGACY = ("ultranet_contest", "skynet_mixq")  # the format before PyTorch 1.6


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for seed, (name, (build, family, w, a)) in enumerate(CASES.items()):
        torch.manual_seed(seed)
        net = build(family, list(map(int, w)), list(map(int, a)))
        size = (SIDE, SIDE) if name.startswith("vgg") else (HEIGHT, WIDTH)
        pixels = torch.randint(0, 256, (3, 3, *size)).float()
        net.train()
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(-0.4, 1.2)
                    module.bias.uniform_(-0.2, 0.6)
            for _ in range(20):
                net(torch.randint(0, 256, (8, 3, *size)).float())
            net.eval()
            logits = net(pixels).permute(0, 2, 3, 1).numpy()
        state = {"epoch": 3, "best": np.float64(0.5), "model": net.state_dict()}
        if name.endswith("mixq"):
            state["model_params"] = {"bitw": list(map(int, w)), "bita": list(map(int, a))}
        path = FOLDER / f"{name}.pt"
        torch.save(state, path, _use_new_zipfile_serialization=name not in LEGACY)
        images = pixels.permute(0, 2, 3, 1).numpy().astype(np.uint8)
        np.savez_compressed(FOLDER / f"{name}.npz", images=images, logits=logits)


if __name__ == "__main__":
    main()
