"""Verdicts through the commands: a calibrated model judges nights, late views, another rate and another calibration."""

import io

import numpy as np
import pytest
from e2e_archives import command, write_files
from PIL import Image

from pipeline.tables.query import open_tables

KEYS = ("--piece-key", "lot,serial", "--view-key", "camera")
VIEWS = ("side", "top")
FIRST, SECOND = "2026-02-01", "2026-02-02"


def picture(seed, camera, bad=False):
    """A view of a piece: noise around a level that depends on the camera; a bad piece has a bright square."""
    rng = np.random.default_rng([seed, VIEWS.index(camera)])
    surface = rng.normal(110 + 30 * VIEWS.index(camera), 10, (64, 64))
    if bad:
        surface[16:48, 16:48] = 255
    sink = io.BytesIO()
    Image.fromarray(surface.clip(0, 255).astype(np.uint8)).convert("RGB").save(sink, "PNG")
    return sink.getvalue()


def pieces(lot, seeds, bad=False):
    """Images of complete pieces by their path within a day."""
    return {f"{lot}/{seed:04d}_{camera}.png": picture(seed, camera, bad) for seed in seeds for camera in VIEWS}


class Plant:
    """A model, its archive, and what the commands say."""

    def __init__(self, folder):
        self.good, self.archive, self.output, self.model = (folder / name for name in ("good", "in", "out", "model"))
        self.config = folder / "config.yaml"
        self.config.write_text("resources: {threads: 1}\nverdicts: {max_unreadable: 0.2}\n")

    def train(self):
        for lot in range(8):
            write_files(self.good, pieces(f"G{lot}", range(100 * lot, 100 * lot + 12)))
        pattern = ("--key-pattern", "{lot}/{serial}_{camera}.png")
        command(
            *(
                "train",
                "--detector",
                "csflow",
                "--epochs",
                "1",
                "--input",
                self.good,
                "--model-out",
                self.model,
                *pattern,
                "--name",
                "plant",
            ),
            *("--backbone", "mobilenetv1_100", "--weights", "none", "--image-size", "64", "--device", "cpu"),
            *("--calibration-share", "0.5", "--selection-share", "0.2", "--seed", "0"),
        )

    def calibrate(self, *more):
        pattern = ("--key-pattern", "{lot}/{serial}_{camera}.png")
        return command("calibrate", "--model", self.model, "--input", self.good, *pattern, *KEYS, "--device", "cpu", *more)

    def night(self, day, images, *more):
        write_files(self.archive, {f"{day}/{name}": content for name, content in images.items()})
        places = ("--model", self.model, "--input", self.archive, "--output", self.output, "--config", self.config)
        return command("score", *places, "--key-pattern", "{date}/{lot}/{serial}_{camera}.png", "--device", "cpu", *more).stdout

    def ask(self, question):
        return open_tables(str(self.output)).connection.execute(question).fetchall()

    def verdicts(self, lot):
        """Pieces of a lot by verdict."""
        return dict(self.ask(f"select verdict, count(distinct piece) from scores where lot = '{lot}' group by all"))

    def lot(self, lot):
        """(revision, state, pieces, flagged) of each decision on it."""
        return self.ask(f"select revision, state, pieces, flagged from lots where lot = '{lot}' order by revision")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_plant_is_judged(tmp_path):
    plant = Plant(tmp_path)
    plant.train()
    good = pieces("N1", range(2000, 2012))
    late = {name: good.pop(name) for name in ("N1/2011_top.png",)}
    assert "the model is not calibrated: nothing is judged" in plant.night(FIRST, good, "--decided-by", "Cleo")
    assert plant.ask("select distinct verdict, reason from scores") == [("not_judged", "not calibrated")]
    assert plant.lot("N1") == []

    plant.calibrate()
    said = plant.night(FIRST, {}, "--rate", "0.1", "--decided-by", "Ada")
    assert "verdicts at a rate of 0.1" in said and "judged anew: 23 rows of scores written, 1 lots" in said
    assert plant.ask("select distinct reason from scores where serial = '2011'") == [("1 of 2 views",)]
    ((revision, state, judged, _),) = plant.lot("N1")
    assert (revision, judged) == (0, 11) and state != "not_judged"

    said = plant.night(SECOND, {**pieces("N2", range(3000, 3015), bad=True), **pieces("N3", range(4000, 4012))})
    assert "judged anew" not in said
    assert plant.verdicts("N2") == {"flagged": 15}, "defects of half the picture"
    ((_, state, judged, flagged),) = plant.lot("N2")
    assert (state, judged, flagged) == ("hold", 15, 15)
    scored = plant.ask("select image_id, score, scored_at::text from scores order by all")

    write_files(plant.archive, {f"{FIRST}/{name}": content for name, content in late.items()})
    plant.night(SECOND, {})
    assert [(revision, judged) for revision, _, judged, _ in plant.lot("N1")] == [(0, 11), (1, 12)]
    assert len(plant.lot("N2")) == len(plant.lot("N3")) == 1, "other lots keep their decision"
    assert plant.ask("select count(*) from scores where reason = '1 of 2 views'") == [(0,)]
    kept = plant.ask("select image_id, score, scored_at::text from scores order by all")
    assert set(scored) < set(kept) and len(kept) == len(scored) + 1

    before = plant.ask("select distinct calibration_digest from scores")
    write_files(plant.good, pieces("G9", range(900, 912)))
    plant.calibrate("--rates", "0.2")
    said = command("judge", "--model", plant.model, "--output", plant.output, "--rate", "0.2", "--decided-by", "Bo").stdout
    assert "no image was read" in said
    assert plant.ask("select distinct calibration_digest from scores") != before
    assert plant.ask("select image_id, score, scored_at::text from scores order by all") == kept
    decided = plant.ask(
        "select setting, old, new, decided_by from decisions where setting <> 'calibration' order by entry, setting"
    )
    assert decided == [
        ("max_unreadable", "0.05", "0.2", "Cleo"),
        ("rate", "0.05", "0.1", "Ada"),
        ("rate", "0.1", "0.2", "Bo"),
    ]
    assert {rate for (rate,) in plant.ask("select rate from lots where revision = (select max(revision) from lots)")} == {"0.2"}
