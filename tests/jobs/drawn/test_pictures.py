import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from jobs.drawn.archive import DAMAGE, make, orders, write_truth
from jobs.drawn.pictures import DEFECTS, PRODUCTS, field, render

CASES = [(product, defect) for product in PRODUCTS for defect in ("good", *DEFECTS[product])]


@pytest.mark.parametrize(("product", "defect"), CASES)
def test_a_picture_is_the_same_for_the_same_seed_and_another_for_another(product, defect):
    one, same, other = (render(product, defect, 96, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert one.pixels.shape == (96, 96, 3) and one.pixels.dtype == np.uint8
    assert np.array_equal(one.pixels, same.pixels)
    assert np.abs(one.pixels.astype(int) - other.pixels).mean() > 2


@pytest.mark.parametrize(("product", "defect"), CASES)
def test_the_mask_says_where_the_defect_is(product, defect):
    sample = render(product, defect, 128, (5, 6))
    share = sample.mask.mean()
    assert share == 0 if defect == "good" else 0.0005 < share < 0.15


@pytest.mark.parametrize("product", PRODUCTS)
def test_pictures_are_neither_flat_nor_clipped(product):
    pixels = render(product, "good", 128, (0,)).pixels
    assert pixels.std() > 5
    assert ((pixels == 0) | (pixels == 255)).mean() < 0.02


def test_the_noise_field_is_smooth_along_its_angle():
    noise = field(np.random.default_rng(0), 128, along=20, across=1, angle=0.0)
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(noise, axis=1)).mean() < 0.2 * np.abs(np.diff(noise, axis=0)).mean()


def test_the_archive_is_laid_out_by_line_day_and_lot_with_the_truth_outside(tmp_path):
    wanted = orders(24, archive=True, seed=3)
    assert [order.key for order in wanted][:2] == [
        "woven/2024-06-03/W11/shard-0000.tar",
        "woven/2024-06-03/W12/shard-0001.tar",
    ]
    shards = list(make(wanted[:2]))
    names = tarfile.open(fileobj=io.BytesIO(shards[0].tar)).getnames()
    assert names == ["000000.jpg", "000001.jpg", *DAMAGE]
    assert [row["member"] for row in shards[0].truth] == ["000000.jpg", "000001.jpg"]
    assert sum(row["defect"] != "good" for row in shards[0].truth) == 1
    with Image.open(tarfile.open(fileobj=io.BytesIO(shards[1].tar)).extractfile("000001.jpg")) as image:
        assert image.size == (288, 288)
    write_truth(shards, tmp_path / "truth.csv")
    lines = (tmp_path / "truth.csv").read_text().splitlines()
    assert lines[0] == "shard,member,product,defect,x0,y0,x1,y1" and len(lines) == 5


def test_damaged_files_stay_below_the_error_share_that_a_run_publishes():
    wanted = orders(100, archive=True, seed=0)
    damaged = sum(len(order.damaged) for order in wanted)
    assert damaged == len(DAMAGE) and damaged < 0.05 * sum(len(order.defects) for order in wanted)


def test_one_lot_of_the_archive_is_bad():
    bad = {order.key.split("/")[2]: sum(defect != "good" for defect in order.defects) for order in orders(300, True, seed=0)}
    assert bad == {lot: 15 if lot == "B21" else 4 for lot in bad} and len(bad) == 12


def test_good_images_have_no_defects_and_nothing_damaged():
    wanted = orders(100, archive=False, seed=3)
    assert {defect for order in wanted for defect in order.defects} == {"good"}
    assert not any(order.damaged for order in wanted)
    assert sum(len(order.defects) for order in wanted) >= 100


def test_the_same_seed_gives_the_same_bytes():
    wanted = orders(12, archive=True, seed=9)[:1]
    assert next(make(wanted)).tar == next(make(wanted)).tar
