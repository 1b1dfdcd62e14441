"""Channels against their definitions, and what light, blur and a view's share leave alone."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.night_channels import CHANNELS, TAIL, WITHOUT_EMBEDDING, NightImages, centres, night_channels


def night(count=200, seed=0, view="top", level=100.0, embedding=True):
    rng = np.random.default_rng(seed)
    brightness = level * np.exp(0.1 * rng.normal(size=count))
    contrast = 0.2 * brightness * np.exp(0.1 * rng.normal(size=count))
    sharpness = (0.5 * contrast * np.exp(0.1 * rng.normal(size=count))) ** 2
    size = np.full(count, 1e6)
    distance = rng.gamma(9, size=count) if embedding else None
    return NightImages([view] * count, brightness, contrast, sharpness, size, rng.normal(level, size=count), distance)


def together(*nights):
    return NightImages(
        sum((list(each.view) for each in nights), []),
        *(np.concatenate(column) for column in zip(*(n[1:] for n in nights), strict=True)),
    )


def test_they_are_what_the_design_says():
    reference = [night(seed=seed) for seed in range(5)]
    centred, tonight = centres(reference), night(seed=9)
    found = dict(zip((channel.name for channel in CHANNELS), night_channels(tonight, centred), strict=True))
    every = together(*reference)
    assert found["brightness"] == pytest.approx(np.log(tonight.brightness).mean() - np.log(every.brightness).mean())
    ratio = [np.log(np.sqrt(each.sharpness) / each.contrast).mean() for each in (tonight, every)]
    assert found["sharpness_ratio"] == pytest.approx(ratio[0] - ratio[1])
    ratio = [np.log(each.contrast / each.brightness).mean() for each in (tonight, every)]
    assert found["contrast_ratio"] == pytest.approx(ratio[0] - ratio[1])
    middle, high = np.quantile(every.score, [0.5, 0.9])
    assert found["score_mean"] == pytest.approx((tonight.score.mean() - every.score.mean()) / (high - middle))
    above = (tonight.embedding > np.sort(every.embedding)[-3]).sum()  # 1,000 images: two lie above the 99.75 % point
    assert np.sin(found["embedding_count"]) ** 2 == pytest.approx((above + 0.375) / 200.75)
    assert (every.embedding > np.sort(every.embedding)[-3]).mean() <= TAIL


def test_light_moves_brightness_alone_and_edges_move_sharpness_alone():
    centred, plain = centres([night()]), night()
    light = plain._replace(brightness=0.8 * plain.brightness, contrast=0.8 * plain.contrast, sharpness=0.64 * plain.sharpness)
    moved = night_channels(light, centred) - night_channels(plain, centred)
    assert moved[0] == pytest.approx(np.log(0.8)) and np.abs(moved[1:]).max() < 1e-9
    blurred = plain._replace(sharpness=0.25 * plain.sharpness)
    moved = night_channels(blurred, centred) - night_channels(plain, centred)
    assert moved[2] == pytest.approx(np.log(0.5)) and np.abs(np.delete(moved, 2)).max() < 1e-9


def test_another_share_of_views_moves_nothing():
    """A dark and a bright view; tonight has three times as many of the bright one."""
    dark, bright = night(400, 1, "dark", 30.0), night(400, 2, "bright", 200.0)
    centred = centres([together(dark, bright)])
    moved = night_channels(together(dark, bright, bright, bright), centred) - night_channels(together(dark, bright), centred)
    assert np.abs(moved[:5]).max() < 1e-9  # uncentred, brightness alone would move by 0.47
    assert (centred.views, centred.means.shape) == (("bright", "dark"), (2, 2))


def test_black_and_flat_pictures_have_channels():
    zero = np.zeros(3)
    flat = night(3)._replace(brightness=zero, contrast=zero, sharpness=zero)
    assert np.isfinite(night_channels(flat, centres([night()]))).all()


def test_a_model_may_keep_no_embedding():
    plain = night(embedding=False)
    assert night_channels(plain, centres([plain])).shape == (WITHOUT_EMBEDDING,)
    with pytest.raises(VerdictError, match="embedding must be"):
        night_channels(night(), centres([plain]))


def test_wrong_nights():
    centred = centres([night()])
    with pytest.raises(VerdictError, match=r"view must be one of .*top.* got \['side'\]"):
        night_channels(night(view="side"), centred)
    with pytest.raises(VerdictError, match="view must be that of at least one image"):
        night_channels(night(0), centred)
    with pytest.raises(VerdictError, match="must be finite; got 1 images"):
        night_channels(night()._replace(score=np.append(np.ones(199), np.nan)), centred)
    with pytest.raises(VerdictError, match="score and embedding must be different"):
        centres([night()._replace(score=np.ones(200))])
