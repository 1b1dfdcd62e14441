"""The reference is kept without loss, and made of what compares."""

import numpy as np
import pytest

from models.faults import VerdictError
from models.verdicts.night_channels import CHANNELS, NightImages
from pipeline.verdicts.drift_reference import KeptReference, made
from schemas import drift


def night(seed, count=60, embedding=True, views=("side", "top")):
    rng = np.random.default_rng(seed)
    looks = np.exp(4 + 0.1 * rng.normal(size=(4, count)))
    return NightImages(np.resize(views, count), *looks, rng.normal(size=count), rng.normal(size=count) if embedding else None)


def nights(**options):
    return [(f"2026-01-{1 + seed:02}", night(seed, **options)) for seed in range(20)]


def test_channels_have_the_names_of_the_table():
    assert tuple(drift.CHANNELS) == tuple(channel.name for channel in CHANNELS)


@pytest.mark.parametrize("embedding", [True, False])
def test_it_is_read_as_it_was_written(embedding):
    kept = made("line=7", nights(embedding=embedding))
    read = KeptReference.parse(kept.text())
    assert (read.group, read.nights, read.with_embedding) == ("line=7", kept.nights, embedding)
    assert read.reference.nights.tolist() == kept.reference.nights.tolist() and read.reference.images == 60
    tonight = read.comparable(night(99))
    assert read.channels(tonight).tolist() == kept.channels(tonight).tolist()
    assert read.text() == kept.text()


def test_views_without_spread_and_new_views_do_not_compare():
    odd = [(day, images._replace(score=np.where(images.view == "top", 1.0, images.score))) for day, images in nights()]
    kept = made("all", odd)
    assert kept.centres.views == ("side",)
    assert len(kept.comparable(night(99, views=("side", "top", "new"))).view) == 20


def test_embeddings_count_only_if_every_night_has_them():
    some = nights()
    images = some[7][1]
    some[7] = (some[7][0], images._replace(embedding=np.full(60, np.nan)))
    assert not made("all", some).with_embedding
    one = np.where(np.arange(60) == 3, np.nan, images.embedding)
    some[7] = (some[7][0], images._replace(embedding=one))
    kept = made("all", some)
    assert kept.with_embedding and len(kept.comparable(some[7][1]).view) == 59


def test_scores_that_are_alike_make_none():
    with pytest.raises(VerdictError, match="score must be different"):
        made("all", [(day, images._replace(score=np.ones(60))) for day, images in nights()])


def test_how_many_images_a_night_needs():
    assert made("all", nights()).least_images == 20 and made("all", nights(count=101)).least_images == 26
    kept = made("all", nights())
    assert kept.of_night(30).images == 30 and kept.of_night(300).images == 60
    assert kept.of_night(20).spread()[5] > kept.of_night(60).spread()[5]
