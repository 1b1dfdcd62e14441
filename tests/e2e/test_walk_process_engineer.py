"""A process engineer's first day by README and --help: good images in a bucket, a model, its promises, a night, a look.

Every step is a command in its own process, and what it says is what the engineer goes on by.
"""

import json
import re

import pytest
from e2e_archives import command, encoded
from ray_head import one_line

from pipeline.storage.store import open_store

PATTERN = "{line}/{date}/{lot}/{name}"
SMALL = ("--backbone", "mobilenetv1_100", "--weights", "none", "--image-size", "64", "--epochs", "1", "--device", "cpu")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def put(bucket, prefix, seeds, lots=6, date="2026-05-02"):
    store = open_store(f"{bucket}/{prefix}")
    for number, seed in enumerate(seeds):
        store.put(f"l1/{date}/L{number % lots}/{number:03d}.png", encoded(seed))


def wrong(*arguments):
    """The one line of a wrong command."""
    done = command(*arguments, check=False)
    one_line(done)
    return done.stderr


def test_from_good_images_to_a_look_at_the_worst(s3_bucket, tmp_path):
    put(s3_bucket, "good", [7 * i + 1 for i in range(60)])
    good, model, output = f"{s3_bucket}/good", f"{s3_bucket}/model", f"{s3_bucket}/results"
    training = ("train", "--input", good, "--model-out", model, "--key-pattern", PATTERN, "--name", "tiles", *SMALL)

    assert "csflow" in wrong(*training, "--detector", "csflo")
    assert "no-such-bucket-here" in wrong(*training[:3], "--model-out", "s3://no-such-bucket-here/model", *training[5:])
    assert "key_pattern" in wrong(*training, "--key-pattern", "{hall}/{line}/{date}/{lot}/{name}")

    said = command(*training).stdout
    assert f"key pattern {PATTERN}: 60 of 60 paths match" in said and "line l1, date 2026-05-02, lot L0" in said
    assert "60 images in 6 groups, found by the key lot" in said and re.search(r"^model tiles: s3://", said, re.MULTILINE)
    assert "no regions" in said, "so few held-out pieces promise nothing of a map's threshold"
    assert "--overwrite" in wrong(*training), "the model that is there is not replaced unasked"

    said = command("calibrate", "--model", model, "--input", good, "--key-pattern", PATTERN, "--device", "cpu").stdout
    assert "few images: 10 good pieces: " in said and "score flags no piece and holds no lot at 5 %" in said

    put(s3_bucket, "archive", [100 + i for i in range(30)], date="2026-06-02")
    night = ("score", "--model", model, "--input", f"{s3_bucket}/archive", "--output", output, "--key-pattern", PATTERN)
    said = command(*night, "--device", "cpu").stdout
    assert "30 scored, 0 in errors" in said

    command("report", "--output", output, "--html", tmp_path / "report.html")
    assert "What to do" in (tmp_path / "report.html").read_text(encoding="utf-8")

    worst = "select image_id, uri from scores order by score desc limit 1"
    row = json.loads(command("query", "--output", output, "--json", worst).stdout)
    said = command(
        *("explain", "--output", output, "--image-id", row["image_id"], "--pictures", f"{s3_bucket}/pictures"),
        *("--method", "gradient", "--device", "cpu"),
    ).stdout
    assert row["uri"].rpartition("/")[2] in said
    assert {"explanations.html", "explanations.json"} <= {entry.key for entry in open_store(f"{s3_bucket}/pictures").list()}

    for seed in range(12):
        kind = "scratch" if seed % 2 else "good"
        open_store(f"{s3_bucket}/labelled").put(f"test/{kind}/{seed}.png", encoded(7 * (50 + seed) + (0 if seed % 2 else 1)))
    said = command("evaluate", "--model", model, "--input", f"{s3_bucket}/labelled", "--device", "cpu").stdout
    assert "AUROC" in said and "scratch" in said
