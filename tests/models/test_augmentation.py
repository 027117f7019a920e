"""Augmented images against what moves and mirrors are by their indices."""

import pytest
import torch

IMAGES = torch.arange(2 * 3 * 6 * 7.0).reshape(2, 3, 6, 7)


@pytest.fixture(autouse=True)
def caller_s_generator():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def moves(image, pixels):
    """Every move of an image (C, H, W), written out; the edge mirrored without being repeated."""
    _, height, width = image.shape

    def mirrored(i, size):
        return -i if i < 0 else 2 * (size - 1) - i if i >= size else i

    steps = range(-pixels, pixels + 1)
    for dy in steps:
        for dx in steps:
            rows = [mirrored(y + dy, height) for y in range(height)]
            columns = [mirrored(x + dx, width) for x in range(width)]
            yield image[:, rows][:, :, columns]


@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_every_image_is_one_of_its_own_moves_and_each_move_comes(augmentation, pixels):
    expected = [list(moves(image, pixels)) for image in IMAGES]
    seen = [set(), set()]
    for _ in range(200):
        found = augmentation.shifted(IMAGES, pixels)
        assert found.shape == IMAGES.shape and found.dtype == IMAGES.dtype
        for own, image, which in zip(expected, found, seen, strict=True):
            which.add(next(i for i, move in enumerate(own) if torch.equal(move, image)))
    assert seen == [set(range((2 * pixels + 1) ** 2))] * 2


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_the_images_is_moved_by_a_pixel_along_one_axis(augmentation, share):
    image = IMAGES[0]
    nine = list(moves(image, 1))  # row by row: the corners are moves along both axes
    found = augmentation.nudged(image.expand(5000, -1, -1, -1), share)
    counts = [sum(torch.equal(move, moved) for moved in found) for move in nine]
    expected = [0, share / 4, 0, share / 4, 1 - share, share / 4, 0, share / 4, 0]
    assert sum(counts) == 5000
    for count, odds in zip(counts, expected, strict=True):
        assert count == pytest.approx(5000 * odds, abs=5 * (5000 * odds * (1 - odds)) ** 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(augmentation, share):
    with pytest.raises(ValueError, match=f"share={share}: give the share of images to move"):
        augmentation.nudged(IMAGES, share)


def test_half_of_the_images_are_mirrored(augmentation):
    many = IMAGES[:1].expand(2000, -1, -1, -1)
    flipped = [torch.equal(i, IMAGES[0].flip(2)) for i in augmentation.shifted_and_flipped(many, 0)]
    straight = [torch.equal(i, IMAGES[0]) for i in augmentation.shifted_and_flipped(many, 0)]
    assert sum(flipped) + sum(straight) == pytest.approx(2000, abs=200)
    assert sum(flipped) == pytest.approx(1000, abs=100)  # 4.5 standard deviations


def test_the_images_given_stay_and_the_seed_decides(augmentation):
    before = IMAGES.clone()
    torch.manual_seed(3)
    first = augmentation.shifted_and_flipped(IMAGES, 1)
    torch.manual_seed(3)
    assert torch.equal(augmentation.shifted_and_flipped(IMAGES, 1), first)
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize("pixels", [-1, 6])
def test_a_move_past_the_image_is_refused(augmentation, pixels):
    with pytest.raises(ValueError, match=f"pixels={pixels}: give 0 to 5"):
        augmentation.shifted(IMAGES, pixels)
