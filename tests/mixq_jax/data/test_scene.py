# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mixq_jax.data.scene import SceneConfig, backdrops, cast, render, subjects
from mixq_jax.data.scene.backdrop import GROUNDS, HELD_OUT_GROUNDS, coloured, draw_backdrop
from mixq_jax.data.scene.clutter import CLUTTER, SIGNS
from mixq_jax.data.scene.drawing import block, posed, stamp
from mixq_jax.data.scene.frame import HUES
from mixq_jax.data.scene.objects import OBJECTS

ALL_GROUNDS = GROUNDS + HELD_OUT_GROUNDS
STILL = SceneConfig(clutter=(0, 0), noise=1, blur=0, contrast=(1, 1), brightness=0)
seeds = st.integers(0, 2**32 - 1)


def test_splits_share_no_subject_but_all_shapes_and_hues():
    train, test = subjects("train"), subjects("test")
    pairs = [{(subject.shape.name, subject.hue) for subject in split} for split in (train, test)]
    assert not pairs[0] & pairs[1]
    assert len(pairs[0] | pairs[1]) == len(OBJECTS) * len(HUES)
    for split in pairs:
        assert {shape for shape, _ in split} == {shape.name for shape in OBJECTS}
        assert {hue for _, hue in split} == set(HUES)


def test_splits_share_no_backdrop():
    train, test = set(backdrops("train")), set(backdrops("test"))
    assert not train & test
    assert {backdrop.ground for backdrop in train} == set(GROUNDS)
    assert {backdrop.ground for backdrop in test} == set(ALL_GROUNDS)
    assert len(train | test) == sum(len(ground.palettes) for ground in ALL_GROUNDS)


def test_objects_are_composites_with_a_body_and_clutter_has_none():
    for shape in OBJECTS:
        roles = {part.role for part in shape.parts}
        assert "body" in roles
        assert roles & {"dark", "light", "skin"}
    for shape in CLUTTER:
        assert not {part.role for part in shape.parts} & {"body", "shade"}
    for shape in SIGNS:
        assert {part.role for part in shape.parts} == {"body"}


@pytest.mark.parametrize("shape", OBJECTS + CLUTTER + SIGNS, ids=lambda shape: shape.name)
@pytest.mark.parametrize("mirror", [False, True])
def test_posed_drawings_fill_the_unit_square(shape, mirror):
    parts, aspect = posed(shape.parts, 0.7 * shape.tilt_deg, mirror)
    points = np.concatenate([part.points for part in parts])
    assert np.allclose(points.min(0), 0, atol=1e-12)
    assert np.allclose(points.max(0), 1, atol=1e-12)
    assert aspect > 0


def test_a_quarter_turn_swaps_the_sides():
    (part,), aspect = posed((block("body", 0, 0, 3, 1),), 90, mirror=False)
    assert aspect == pytest.approx(1 / 3)
    assert part.points[0] == pytest.approx([1, 0])  # top left goes to top right: clockwise


@given(st.integers(1, 30), st.integers(1, 30), st.integers(-5, 20), st.integers(-5, 20))
def test_stamp_covers_its_box_and_nothing_else(w, h, x, y):
    image = Image.new("RGB", (40, 30), (10, 20, 30))
    stamp(image, (block("body", 0, 0, 1, 1),), (x, y, x + w, y + h), {"body": (200, 100, 50)})
    expected = np.full((30, 40, 3), (10, 20, 30))
    expected[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = (200, 100, 50)
    assert np.array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("shape", OBJECTS, ids=lambda shape: shape.name)
def test_a_stamped_object_reaches_all_four_sides_of_its_box(shape):
    image = Image.new("RGB", (120, 120))
    parts, _ = posed(shape.parts, shape.tilt_deg / 3, mirror=True)
    stamp(image, parts, (20, 30, 70, 90), {part.role: (255, 255, 255) for part in parts})
    rows, columns = np.nonzero(np.asarray(image)[..., 0])
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (20, 30, 70, 90)


@pytest.mark.parametrize("ground", ALL_GROUNDS, ids=lambda ground: ground.texture.__name__)
def test_textures_have_contrast_and_their_palettes_colours(ground):
    rng = np.random.default_rng(1)
    field = ground.texture(rng, 40, 80)
    assert field.shape == (40, 80)
    assert field.dtype == np.float32
    assert 0.02 < field.std() < 0.6
    pixels = coloured(field, ground.palettes[0])
    levels = np.array(ground.palettes[0])
    assert np.all(pixels >= levels.min(0) - 1)
    assert np.all(pixels <= levels.max(0))


def test_open_air_ground_sometimes_reaches_a_horizon_and_other_ground_never():
    horizons = {
        ground.open_air: [
            draw_backdrop(np.random.default_rng(k), backdrop, 40, 80)[1] for k in range(12)
        ]
        for backdrop in backdrops("train")
        for ground in (backdrop.ground,)
    }
    assert set(horizons[False]) == {0}
    assert 0 in horizons[True]
    assert any(2 < row < 20 for row in horizons[True])


@given(seeds, st.sampled_from(["train", "test"]))
def test_cast_keeps_to_split_and_habitat(seed, split):
    subject, backdrop = cast(np.random.default_rng(seed), split)
    assert subject in subjects(split)
    assert backdrop in backdrops(split)
    assert subject.shape.habitat in ("air", backdrop.ground.habitat)


@given(seeds, st.sampled_from([(80, 160), (48, 64)]))
def test_frames_are_bytes_with_a_box_inside_that_has_contest_like_area(seed, size):
    height, width = size
    rng = np.random.default_rng(seed)
    pixels, (xmin, ymin, xmax, ymax) = render(
        rng, *cast(rng, "train"), height, width, SceneConfig()
    )
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 3
    assert 0 <= xmin < xmax <= width
    assert 0 <= ymin < ymax <= height
    low, high = SceneConfig().area_limits
    rounding = (xmax - xmin + ymax - ymin) / 2 + 9
    assert low * height * width - rounding <= (xmax - xmin) * (ymax - ymin)
    assert (xmax - xmin) * (ymax - ymin) <= high * height * width + rounding


def test_the_object_is_what_the_box_shows():
    """Frames that differ in the object alone differ inside its box alone."""
    train = subjects("train")
    backdrop = next(b for b in backdrops("train") if b.ground.habitat == "land")
    walkers = [subject for subject in train if subject.shape.name == "walker"]
    frames = [
        render(np.random.default_rng(3), subject, backdrop, 80, 160, STILL)
        for subject in walkers[:2]
    ]
    (first, box), (second, other) = frames
    assert box == other
    rows, columns = np.nonzero((first != second).any(-1))
    xmin, ymin, xmax, ymax = box
    assert len(rows) > 5
    assert columns.min() >= xmin
    assert columns.max() < xmax
    assert rows.min() >= ymin
    assert rows.max() < ymax


def test_the_same_generator_state_draws_the_same_frame():
    frames = []
    for _ in range(2):
        rng = np.random.default_rng(11)
        frames.append(render(rng, *cast(rng, "test"), 40, 80, SceneConfig())[0])
    assert np.array_equal(*frames)
