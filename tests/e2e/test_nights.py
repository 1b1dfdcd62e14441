"""One output over five nights: new images, a damaged one and its mending, a retrained model, an image that comes late."""

import pytest
from e2e_archives import command, encoded, write_files

from models import artifact
from pipeline.tables.query import open_tables

REFUSED = 2
DAYS = [f"2026-01-0{day}" for day in range(1, 6)]
DAMAGED, LATE = "damaged.png", "late.png"


@pytest.fixture(scope="module")
def retrained(tmp_path_factory):
    """The model of the fixture `model`, of the same name, trained on other images."""
    folder = tmp_path_factory.mktemp("retrained")
    write_files(folder / "good", {f"{i:03d}.png": encoded(7 * i + 3) for i in range(40)})
    command(
        *("train", "--detector", "csflow", "--input", folder / "good", "--model-out", folder / "model"),
        *("--backbone", "mobilenetv1_100", "--weights", "none", "--image-size", "64", "--epochs", "1"),
        *("--calibration-share", "0", "--selection-share", "0", "--device", "cpu", "--name", "tiny", "--seed", "1"),
    )
    return folder / "model"


class Plant:
    """Images that come night by night, and what the commands publish of them."""

    def __init__(self, folder):
        self.input, self.output = folder / "in", folder / "out"
        self.config = folder / "config.yaml"
        self.config.write_text("source: {unit_images: 8}\nresources: {threads: 1}\n")

    def night(self, model, date, images, *more, check=True):
        """Put the images there and run `flowscore score`."""
        write_files(self.input, images)
        places = ("--model", model, "--input", self.input, "--output", self.output, "--date", date, "--config", self.config)
        return command("score", *places, *more, check=check)

    def ask(self, question):
        return open_tables(str(self.output)).connection.execute(question).fetchall()

    def counts(self):
        """Rows of `scores`, different images in it, rows of `errors`, and rows of `scores` with a map."""
        (found,) = self.ask(
            "select (select count(*) from scores), (select count(distinct image_id) from scores), "
            "(select count(*) from errors), (select count(*) from scores join maps using (image_id))"
        )
        return found

    def of(self, name):
        """(date, model digest) of the rows of one image in `scores`."""
        return self.ask(f"select date, model_digest from scores where uri like '%/{name}'")


def pictures(first, end):
    return {f"{i:03d}.png": encoded(i) for i in range(first, end)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_nights(model, retrained, tmp_path):
    plant = Plant(tmp_path)
    early, later = (artifact.read(folder).model_digest for folder in (model, retrained))
    whole = encoded(1000)

    plant.night(model, DAYS[0], pictures(0, 40))
    assert plant.counts() == (40, 40, 0, 40)

    plant.night(model, DAYS[1], {DAMAGED: whole[: len(whole) // 2]})
    assert plant.counts() == (40, 40, 1, 40)
    assert plant.ask("select date, error from errors") == [(DAYS[1], "truncated")]

    plant.night(model, DAYS[2], pictures(40, 60))
    assert plant.counts() == (60, 60, 1, 60)

    plant.night(model, DAYS[3], {DAMAGED: whole})
    assert plant.counts() == (61, 61, 0, 61)
    assert plant.of(DAMAGED) == [(DAYS[1], early)], "a mended image keeps the day that it first came on"

    refused = plant.night(retrained, DAYS[4], pictures(60, 70), check=False)
    assert refused.returncode == REFUSED and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and "--from-now-on" in refused.stderr and refused.stderr.count("\n") == 1
    assert plant.counts() == (61, 61, 0, 61)
    plant.night(retrained, DAYS[4], {}, "--from-now-on")
    assert plant.counts() == (71, 71, 0, 71)
    by_day = [(DAYS[0], early, 40), (DAYS[1], early, 1), (DAYS[2], early, 20), (DAYS[4], later, 10)]
    assert plant.ask("select date, model_digest, count(*) from scores group by all order by all") == by_day

    before = plant.ask("select image_id, epoch_us(scored_at) from scores order by all")
    plant.night(retrained, DAYS[0], {LATE: encoded(1001)})
    assert plant.counts() == (72, 72, 0, 72)
    assert plant.of(LATE) == [(DAYS[0], early)], "an image that comes late is scored as its day was"
    after = plant.ask("select image_id, epoch_us(scored_at) from scores order by all")
    assert len(set(after) - set(before)) == 1, "nothing is scored again"

    said = plant.night(retrained, DAYS[4], {}).stdout
    assert "nothing new" in said and plant.counts() == (72, 72, 0, 72)
    runs = plant.ask("select scored, quarantined from runs order by run_id")
    assert runs == [(40, 0), (0, 1), (20, 0), (1, 0), (10, 0), (1, 0)]
