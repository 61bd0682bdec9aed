# SPDX-License-Identifier: Apache-2.0
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixq_jax.data.augment import AugmentConfig, augment, light, reference

B, H, W = 6, 24, 40
OFF = AugmentConfig(flip=0)
WILD = AugmentConfig(hue=0.1, saturation=0.6, value=0.5, rotate_deg=60, shear_deg=20, scale=0.5,
                     translate=0.8)  # fmt: skip
CONFIGS = {"light": light(), "wild": WILD}  # WILD runs the same operations as `reference`

jitted = jax.jit(augment, static_argnames="config")


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    size = rng.uniform(0.1, 0.4, (B, 2))
    centre = size / 2 + rng.random((B, 2)) * (1 - size)
    boxes = np.concatenate([centre, size], 1).astype(np.float32)
    return rng.integers(0, 256, (B, H, W, 3), np.uint8), jnp.asarray(boxes)


def test_everything_off_is_the_identity(batch):
    images, boxes, kept = jitted(jax.random.key(0), *batch, OFF)
    assert images.dtype == jnp.float32
    assert np.array_equal(images, batch[0])
    assert np.array_equal(boxes, batch[1])
    assert np.array_equal(kept, np.ones(B))


def test_certain_flip_mirrors_and_twice_is_the_identity(batch):
    flip = AugmentConfig(flip=1)
    once = jitted(jax.random.key(0), *batch, flip)
    assert np.array_equal(once[0], batch[0][:, :, ::-1])
    assert np.allclose(once[1][:, 0], 1 - batch[1][:, 0])
    twice = jitted(jax.random.key(1), *once[:2], flip)
    assert np.array_equal(twice[0], batch[0])
    assert np.allclose(twice[1], batch[1], atol=1e-7)  # 1 - (1 - x) in float32


def test_flip_moves_image_and_box_together():
    images = np.zeros((64, H, W, 3), np.uint8)
    images[:, 4:10, 2:12] = 255
    box = jnp.array([7 / W, 7 / H, 10 / W, 6 / H], jnp.float32)
    images, boxes, _ = jitted(jax.random.key(3), images, jnp.tile(box, (64, 1)), AugmentConfig())
    mirrored = np.asarray(images[:, 5, 30, 0] == 255)
    assert 16 < mirrored.sum() < 48
    assert np.allclose(boxes[:, 0] * W, np.where(mirrored, W - 7, 7), atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_images_are_whole_bytes_and_boxes_inside(batch, name):
    for seed in range(8):
        images, boxes, kept = jitted(jax.random.key(seed), *batch, CONFIGS[name])
        assert images.dtype == boxes.dtype == kept.dtype == jnp.float32
        assert np.array_equal(images, np.asarray(images).astype(np.uint8))
        assert np.all(boxes[:, :2] - boxes[:, 2:] / 2 >= -1e-5)
        assert np.all(boxes[:, :2] + boxes[:, 2:] / 2 <= 1 + 1e-5)
        assert set(np.unique(kept)) <= {0, 1}


@pytest.mark.parametrize("name", CONFIGS)
def test_key_alone_decides(batch, name):
    first, again, other = (jitted(jax.random.key(k), *batch, CONFIGS[name])[0] for k in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_each_image_has_draws_of_its_own():
    images, boxes = np.full((B, H, W, 3), (40, 80, 120), np.uint8), jnp.full((B, 4), 0.5)
    images, _, _ = jitted(jax.random.key(0), images, boxes, AugmentConfig(value=0.3))
    assert len({float(image[0, 0, 0]) for image in images}) > 1


@pytest.mark.parametrize("name", CONFIGS)
def test_vmap_over_keys_equals_a_loop(batch, name):
    keys = jax.random.split(jax.random.key(5), 3)
    run = partial(augment, images=batch[0], boxes=batch[1], config=CONFIGS[name])
    together = jax.jit(jax.vmap(run))(keys)
    for i, key in enumerate(keys):
        images, boxes, kept = jitted(key, *batch, CONFIGS[name])
        # Fused differently, a level may fall on the other side of a half.
        assert np.mean(together[0][i] != images) < 1e-3
        assert np.max(np.abs(together[0][i] - images)) <= 1
        assert np.allclose(together[1][i], boxes, atol=1e-5)
        assert np.array_equal(together[2][i], kept)


def test_reference_recipe():
    recipe = reference()
    assert (recipe.hue, recipe.saturation, recipe.value) == (0.0138, 0.678, 0.36)
    assert (recipe.rotate_deg, recipe.shear_deg) == (1.98, 0.641)
    assert (recipe.scale, recipe.translate, recipe.flip, recipe.border) == (0.05, 0.05, 0.5, 128)
    assert (recipe.min_side_px, recipe.min_visible, recipe.max_aspect) == (3, 0.2, 10)


def test_jit_equals_eager(batch):
    eager = augment(jax.random.key(4), *batch, light())
    compiled = jitted(jax.random.key(4), *batch, light())
    assert np.mean(eager[0] != compiled[0]) < 1e-3
    assert np.allclose(eager[1], compiled[1], atol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("x64", [False, True])
def test_strict_types_and_ranks(batch, name, x64):
    run = partial(augment, config=CONFIGS[name])
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.enable_x64(x64),
    ):
        results = jax.eval_shape(run, jax.random.key(0), *batch)
    assert [result.shape for result in results] == [(B, H, W, 3), (B, 4), (B,)]
    assert {result.dtype for result in results} == {jnp.dtype("float32")}


def test_shift_is_bounded_by_the_other_side():
    """A point mark moves at most 5 % of the height along x, of the width along y."""
    many = 200
    boxes = jnp.tile(jnp.array([0.5, 0.5, 0.2, 0.2], jnp.float32), (many, 1))
    config = AugmentConfig(flip=0, translate=0.05, min_side_px=0)
    _, moved, _ = jitted(jax.random.key(0), np.zeros((many, H, W, 3), np.uint8), boxes, config)
    dx, dy = np.abs(np.asarray(moved[:, :2]) - 0.5).max(0) * (W, H)
    assert 0.9 * 0.05 * H < dx <= 0.05 * H + 1e-4
    assert 0.9 * 0.05 * W < dy <= 0.05 * W + 1e-4


@pytest.mark.parametrize(
    ("size_px", "limits", "kept"),
    [
        ((4, 4), {}, 1),
        ((3, 9), {}, 0),
        ((3, 9), {"min_side_px": 2}, 1),
        ((36, 4), {}, 1),
        ((38, 3.5), {}, 0),
        ((38, 3.5), {"max_aspect": 12}, 1),
    ],
)
def test_slight_boxes_are_dropped(size_px, limits, kept):
    box = jnp.array([[0.5, 0.5, size_px[0] / W, size_px[1] / H]], jnp.float32)
    config = AugmentConfig(flip=0, translate=1e-6, **limits)
    result = jitted(jax.random.key(0), np.zeros((1, H, W, 3), np.uint8), box, config)[2]
    assert result.tolist() == [kept]


def test_boxes_pushed_out_are_dropped_by_the_part_that_is_left():
    many = 300
    boxes = jnp.tile(jnp.array([0.1, 0.5, 0.2, 0.3], jnp.float32), (many, 1))
    config = AugmentConfig(flip=0, translate=0.5, min_side_px=0, max_aspect=1e9)
    images = np.zeros((many, H, W, 3), np.uint8)
    _, moved, kept = jitted(jax.random.key(0), images, boxes, config)
    shown = np.prod(np.asarray(moved[:, 2:], np.float64), 1) / (0.2 * 0.3)
    clear = np.abs(shown - 0.2) > 1e-4
    assert np.array_equal(np.asarray(kept)[clear] == 1, shown[clear] > 0.2)
    assert 0 < kept.sum() < many
