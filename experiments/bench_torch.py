# SPDX-License-Identifier: Apache-2.0
"""The other side of the speed benchmark: the same search step in eager PyTorch (float32, NCHW).

`python -m experiments.bench_torch --steps N` prints one JSON line; `experiments.bench` drives it
over the pipe with `--serve`. Needs only torch and numpy (the `bench` extra); the product never
imports it.
"""

import math
import platform
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.bench_problem import ANCHOR_PIXELS, ANCHORS, BITS, STRIDE, Problem, Recipe, problem
from experiments.bench_worker import Side, worker_main

# Steps of the reference's quantisers for a unit normal (weights) and its positive half, 2..8 bits.
WEIGHT_STEPS = (0.996, 0.586, 0.336, 0.190, 0.106, 0.059, 0.032)
ACTIVATION_STEPS = (0.538, 0.3217, 0.185, 0.104, 0.058, 0.033, 0.019)


class RoundToStep(torch.autograd.Function):
    """Round to a multiple of `step`, straight-through."""

    @staticmethod
    def forward(ctx, x: Tensor, step: float) -> Tensor:
        return torch.floor(x / step + 0.5) * step

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class QuantizeWeight(torch.autograd.Function):
    """Round to the signed `bits`-bit grid of `step`; the gradient passes to clipped weights too."""

    @staticmethod
    def forward(ctx, w: Tensor, step: Tensor, bits: int) -> Tensor:
        half = 2 ** (bits - 1)
        return torch.round(w / step).clamp(-half, half - 1) * step

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None


def quantize_activation(x: Tensor, bits: int, step: float) -> Tensor:
    """Clip to [0, (2^bits - 1) * step] and round; gradient 1 inside, 0 outside."""
    return RoundToStep.apply(x.clamp(0.0, step * (2**bits - 1)), step)


def quantize_image(x: Tensor, bits: int) -> Tensor:
    """Keep the top `bits` bits of pixels that are multiples of 1/256."""
    return torch.floor(x * 2**bits) * 2.0**-bits


class MixedConv(nn.Module):
    """A convolution of mixtures: 7 activation branches, and 7 quantisations of one kernel."""

    def __init__(self, kernel: np.ndarray, alpha_w: np.ndarray, alpha_a: np.ndarray, image: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(kernel))
        self.alpha_w = nn.Parameter(torch.tensor(alpha_w))
        self.alpha_a = nn.Parameter(torch.tensor(alpha_a))
        self.image = image
        self.padding = kernel.shape[-1] // 2

    def mixed_input(self, x: Tensor) -> Tensor:
        probability = functional.softmax(self.alpha_a, dim=0)
        if self.image:
            branches = (quantize_image(x, bits) for bits in BITS)
        else:
            branches = map(quantize_activation, [x] * len(BITS), BITS, ACTIVATION_STEPS)
        return sum(p * branch for p, branch in zip(probability, branches, strict=True))

    def mixed_weight(self) -> Tensor:
        std = self.weight.detach().std()  # torch divides by n - 1
        probability = functional.softmax(self.alpha_w, dim=0)
        return sum(
            p * QuantizeWeight.apply(self.weight, scale * std, bits)
            for p, scale, bits in zip(probability, WEIGHT_STEPS, BITS, strict=True)
        )

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.conv2d(
            self.mixed_input(x), self.mixed_weight(), bias, padding=self.padding
        )


class Supernet(nn.Module):
    """UltraNet with every bit-width 2..8 mixed in every layer: [N, 3, H, W] to [N, 36, H/16, W/16].

    Starts from the kernels, head bias and alphas of the problem.
    """

    def __init__(self, start: Problem):
        super().__init__()
        self.pools = [layer.pool for layer in start.layers[:-1]]
        self.convs = nn.ModuleList(
            MixedConv(kernel, alpha_w, alpha_a, image=index == 0)
            for index, (kernel, alpha_w, alpha_a) in enumerate(
                zip(start.kernels, start.alpha_w, start.alpha_a, strict=True)
            )
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(conv.weight.shape[0]) for conv in self.convs[:-1])
        self.head_bias = nn.Parameter(torch.tensor(start.head_bias))
        self.register_buffer("cost_table", torch.tensor(start.cost_table))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, head = self.convs
        for conv, norm, pool in zip(hidden, self.norms, self.pools, strict=True):
            x = norm(conv(x))
            if pool:
                x = functional.max_pool2d(x, 2)
        return head(x, self.head_bias)

    def expected_cost(self) -> Tensor:
        """Expectation of the cost table under both bit distributions of every layer."""
        weight_p = torch.stack([conv.alpha_w for conv in self.convs]).softmax(dim=1)
        activation_p = torch.stack([conv.alpha_a for conv in self.convs]).softmax(dim=1)
        return torch.einsum("li,lij,lj->", weight_p, self.cost_table, activation_p)


def ciou(box: Tensor, target: Tensor) -> Tensor:
    """Complete IoU of [..., 4] boxes (centre x, centre y, width, height)."""
    (x, y, w, h), (tx, ty, tw, th) = box.unbind(-1), target.unbind(-1)
    left, right = torch.maximum(x - w / 2, tx - tw / 2), torch.minimum(x + w / 2, tx + tw / 2)
    top, bottom = torch.maximum(y - h / 2, ty - th / 2), torch.minimum(y + h / 2, ty + th / 2)
    intersection = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
    iou = intersection / (w * h + tw * th - intersection)
    hull_w = torch.maximum(x + w / 2, tx + tw / 2) - torch.minimum(x - w / 2, tx - tw / 2)
    hull_h = torch.maximum(y + h / 2, ty + th / 2) - torch.minimum(y - h / 2, ty - th / 2)
    distance = ((x - tx) ** 2 + (y - ty) ** 2) / (hull_w**2 + hull_h**2)
    aspect = 4 / math.pi**2 * (torch.atan(tw / th) - torch.atan(w / h)) ** 2
    trade_off = (aspect / (1 - iou + aspect)).detach()
    return iou - distance - trade_off * aspect


def detection_loss(output: Tensor, boxes: Tensor, image_weights: Tensor, recipe: Recipe) -> Tensor:
    """CIoU at the cell of each box centre plus weighted objectness everywhere, all anchors alike.

    output [N, 36, H, W] with channel = anchor * 6 + value; boxes [N, 4] as image fractions.
    """
    batch, _, height, width = output.shape
    output = output.view(batch, ANCHORS, 6, height, width)
    grid = boxes * boxes.new_tensor([width, height, width, height])
    column, row = grid[:, 0].long(), grid[:, 1].long()
    image = torch.arange(batch)

    positive = output[image, :, :, row, column]  # [N, anchors, 6]
    size = positive[..., 2:4].exp().clamp(max=1e3) * (ANCHOR_PIXELS / STRIDE)
    target = torch.cat([grid[:, :2] - grid[:, :2].floor(), grid[:, 2:]], dim=1)[:, None]
    predicted = torch.cat([positive[..., :2].sigmoid(), size], dim=-1)
    box_loss = (1 - ciou(predicted, target)).mean()

    objectness = torch.zeros_like(output[:, :, 4])
    objectness[image, :, row, column] = 1.0
    objectness_loss = functional.binary_cross_entropy_with_logits(
        output[:, :, 4], objectness, weight=image_weights.view(-1, 1, 1, 1)
    )
    loss = recipe.box_gain * box_loss + recipe.objectness_gain * objectness_loss
    return loss * batch / recipe.nominal_batch


def optimizers(net: Supernet, recipe: Recipe) -> tuple[torch.optim.SGD, torch.optim.SGD]:
    """Return SGD with Nesterov momentum for the weights and plain SGD for the alphas."""
    named = list(net.named_parameters())
    alphas = [p for name, p in named if "alpha" in name]
    biases = [p for name, p in named if name.endswith("bias")]
    weights = [p for name, p in named if "alpha" not in name and not name.endswith("bias")]
    groups = [{"params": weights}, {"params": biases, "lr": recipe.bias_lr}]
    return (
        torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=True),
        torch.optim.SGD(alphas, recipe.alpha_lr, recipe.momentum, weight_decay=recipe.alpha_decay),
    )


def torch_stepper(start: Problem) -> Callable[[], float]:
    """Return a function that runs one search step on the problem's batch and returns its loss."""
    net = Supernet(start).train()
    update_weights, update_alphas = optimizers(net, start.recipe)
    images, boxes = torch.tensor(start.images), torch.tensor(start.boxes)
    image_weights = torch.tensor(start.image_weights)

    def step() -> float:
        loss = detection_loss(net(images), boxes, image_weights, start.recipe)
        loss = loss + start.recipe.cost_gain * net.expected_cost()
        update_weights.zero_grad()
        update_alphas.zero_grad()
        loss.backward()
        update_weights.step()
        update_alphas.step()
        return loss.item()

    return step


def make_side(threads: int) -> Side:
    """Build the PyTorch side with `threads` intra-op threads."""
    torch.set_num_threads(threads)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    return Side(versions, torch.get_num_threads(), torch_stepper(problem()))


if __name__ == "__main__":
    worker_main(make_side, "Time the eager PyTorch supernet.")
