# SPDX-License-Identifier: Apache-2.0
"""Imported networks compute what PyTorch does with the same checkpoint."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hw.execute import execute
from mixq_jax import export, model, pretrained, torch_file
from mixq_jax.bits import FloatBits, parse_bits
from mixq_jax.nets import detector, skynet, ultranet, ultranet_bypass, vgg_tiny
from mixq_jax.nets.baselines import QUANTISERS
from mixq_jax.pretrained import PretrainedError, to_variables
from mixq_jax.spec import OURS, NetSpec

FOLDER = Path(__file__).parent.parent / "golden/torch"
PLAIN, SKY, VGG = (4, 6, 8, 8, 8, 8, 8, 8), (4, 8, 8, 12, 16, 8), (4, 4, 6, 6, 8, 8)
NETS = {
    "ultranet": partial(ultranet, 32, 64, channels=PLAIN),
    "bypass": partial(ultranet_bypass, 32, 64, channels=PLAIN),
    "skynet": partial(skynet, 32, 64, channels=SKY),
    "skynet_k5": partial(skynet, 32, 64, channels=SKY, kernel=5),
    "vgg": partial(vgg_tiny, 16, channels=VGG),
    "vgg_float": partial(vgg_tiny, 16, channels=VGG, pool_first=True),
}
WIDTHS = {
    "ultranet_contest": ("4" * 9, "8" + "4" * 8),
    "bypass_contest": ("4" * 9, "8" + "4" * 8),
    "ultranet_dorefa": ("8" + "4" * 7 + "8", "8" + "4" * 8),
}
CASES = sorted(path.stem for path in FOLDER.glob("*.pt"))


def load(case: str) -> tuple[NetSpec, model.Bits, torch_file.TorchFile]:
    net, family = case.rsplit("_", 1)
    file = torch_file.load(FOLDER / f"{case}.pt")
    spec = NETS.get(case, NETS[net])(quant=QUANTISERS.get(family, OURS))
    if family == "float":
        return spec, FloatBits(), file
    widths = WIDTHS.get(case) or (file.w_bits, file.a_bits)
    return spec, parse_bits(*widths, spec.fixed_bits), file


def test_every_case_is_there():
    assert len(CASES) == 10


@pytest.mark.parametrize("case", CASES)
def test_logits_equal_those_of_pytorch(case):
    """To 1e-4, as float32 sums in another order; a code that lies on an edge would show as more."""
    spec, bits, file = load(case)
    golden = np.load(FOLDER / f"{case}.npz")
    variables = to_variables(spec, file.tensors)
    images = jnp.asarray(golden["images"], jnp.float32)
    run = jax.jit(lambda variables, images: model.apply(spec, variables, images, bits, False)[0])
    y = run(variables, images)
    assert y.shape == golden["logits"].shape
    assert np.abs(golden["logits"]).max() > 0.5
    np.testing.assert_allclose(y, golden["logits"], atol=1e-4)


def test_pools_before_and_behind_the_norm_differ_by_negative_gammas_alone():
    """With |gamma| both are one network, to the rounding of float32."""
    spec, bits, file = load("vgg_float")
    behind = NETS["vgg"](quant=spec.quant)
    images = jnp.asarray(np.load(FOLDER / "vgg_float.npz")["images"], jnp.float32)
    gammas = [name for name in file.tensors if name.endswith("bn.weight")]
    assert any((file.tensors[name] < 0).any() for name in gammas)
    positive = {name: np.abs(file.tensors[name]) for name in gammas}
    runs = [
        jax.jit(partial(lambda net, v, x: model.apply(net, v, x, bits, False)[0], net))
        for net in (spec, behind)
    ]
    results = []
    for tensors in (file.tensors, file.tensors | positive):
        variables = to_variables(spec, tensors)
        jax.tree.map(np.testing.assert_array_equal, variables, to_variables(behind, tensors))
        first, second = (run(variables, images) for run in runs)
        results.append(np.abs(first - second).max())
    assert results[0] > 1e-2
    assert results[1] < 1e-4


def test_a_network_that_pools_before_its_norm_has_no_integers():
    spec, _, file = load("vgg_float")
    message = (
        "^layer 'conv1' of 'vgg_tiny' is pooled before its norm; the accelerator pools codes, so "
        "take the network that pools behind the norm$"
    )
    bits = parse_bits("444444", "844444", spec.fixed_bits)
    for variables in (None, to_variables(spec, file.tensors)):
        with pytest.raises(export.ExportError, match=message):
            export.to_graph(spec, bits, variables)


@pytest.mark.parametrize("case", [c for c in CASES if not c.endswith(("float", "dorefa"))])
def test_integers_follow_the_imported_network(case):
    """To the rounding of the head's bias, though gammas are negative.

    Not where an 8-bit first layer leaves its multipliers 18 bits: codes at edges move, and in maps
    as small as these that reaches every output.
    """
    spec, bits, file = load(case)
    golden = np.load(FOLDER / f"{case}.npz")
    variables = to_variables(spec, file.tensors)
    graph = export.to_graph(spec, bits, variables)
    got = execute(graph, golden["images"].astype(np.int64)) * graph.output.scale
    assert (np.abs(got - golden["logits"]) <= graph.output.scale / 2 + 1e-4).all()


def tensors() -> dict[str, np.ndarray]:
    return dict(torch_file.load(FOLDER / "ultranet_contest.pt").tensors)


def without(name: str) -> dict[str, np.ndarray]:
    return {key: value for key, value in tensors().items() if key != name}


SPEC = NETS["ultranet"](quant=QUANTISERS["contest"])
WRONG = {
    "foreign tensor": (
        tensors() | {"layers.0.alpha": np.zeros(7)},
        r"tensor 'layers.0.alpha' \(7,\) is neither weight, bias nor running statistics",
    ),
    "too many layers": (
        tensors() | {"more.weight": np.zeros((4, 36, 1, 1))},
        "'more' is one layer too many: 'ultranet' has 9",
    ),
    "shape": (
        tensors() | {"layers.1.conv.weight": np.zeros((6, 4, 5, 5))},
        r"'layers.1.conv.weight' is \(6, 4, 5, 5\); layer 'conv1' of 'ultranet' needs \(6, 4, 3, 3",
    ),
    "no bias": (without("layers.8.conv.bias"), "'layers.8.conv' has no bias; layer 'conv8' is the"),
    "a bias": (
        tensors() | {"layers.2.conv.bias": np.zeros(8)},
        "'layers.2.conv' has a bias; layer 'conv2' is the other way",
    ),
    "no mean": (without("layers.3.bn.running_var"), "batch norm 'layers.3.bn' has no running_var"),
    "channels": (
        tensors() | {"layers.3.bn.weight": np.zeros(3)},
        r"'layers.3.bn.weight' is \(3,\); layer 'conv3' has 8 channels",
    ),
    "not finite": (
        tensors() | {"layers.3.bn.weight": np.full(8, np.nan)},
        "tensor 'layers.3.bn.weight' holds values beyond float32 or no numbers",
    ),
    "beyond float32": (
        tensors() | {"layers.3.bn.weight": np.full(8, 1e300)},
        "tensor 'layers.3.bn.weight' holds values beyond float32 or no numbers",
    ),
    "negative variance": (
        tensors() | {"layers.3.bn.running_var": np.full(8, -2.5)},
        "tensor 'layers.3.bn.running_var' holds -2.5, a negative variance",
    ),
    "no weight": (
        without("layers.8.conv.weight"),
        "'layers.8.conv' has no weight of two or four dimensions",
    ),
    "one layer less": (
        {k: v for k, v in tensors().items() if not k.startswith("layers.8")},
        "the file has no weights for layer 'conv8'",
    ),
    "norm first": (
        {"bn.weight": np.ones(4), "bn.running_mean": np.zeros(4)} | tensors(),
        "batch norm 'bn' follows no layer of 'ultranet' that has one",
    ),
    "no norm": (
        {k: v for k, v in tensors().items() if not k.startswith("layers.7.bn")},
        "the file has no batch norm for layer 'conv7'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensors_that_do_not_fit_are_named(case):
    given, message = WRONG[case]
    with pytest.raises(PretrainedError, match=f"^{message}"):
        to_variables(SPEC, given)


def test_a_dense_layer_must_have_the_columns_of_its_map():
    spec, _, file = load("vgg_mixq")
    given = dict(file.tensors) | {"classifier.weight": np.zeros((10, 31), np.float32)}
    with pytest.raises(PretrainedError, match=r"31 columns; 'flatten' flattens 2x2x8"):
        to_variables(spec, given)


def test_networks_by_name_have_the_quantisers_of_their_makers():
    assert detector("ultranet", 32, 64, "contest").head.score == "logit"
    assert detector("skynet_k5", 32, 64, "mixq").quant == QUANTISERS["mixq"]
    sky = detector("skynet", 32, 64, slim=4)
    assert pretrained.kernel_shape(sky, sky.convs[0]) == (3, 3, 1, 3)
    assert pretrained.kernel_shape(sky, sky.convs[1]) == (1, 1, 3, 12)
