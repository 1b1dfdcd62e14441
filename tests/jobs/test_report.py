import io
import re
import tarfile
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import judged_ledger
import numpy as np
import pytest
from fake_run import DIGEST, MODEL, publish, score_without_model, write_slice
from PIL import Image

from jobs.command.entry import run
from jobs.report import main
from models.calibration.files import JSON
from models.maps.map_scale import MapScale
from pipeline.input.config import SourceConfig
from pipeline.report.pictures import BOX
from pipeline.state.judges import Ruling, decide
from pipeline.state.ledger import Ledger
from pipeline.storage.store import open_store
from pipeline.tables.rejudge import rejudge

PATTERN = "{line}/{date}/{lot}/{name}"
VOID = {"meta", "img", "br", "input"}


def jpeg(seed, spot=0):
    pixels = np.random.default_rng(seed).normal(128, 6, (60, 80)).clip(0, 255).astype(np.uint8)
    pixels[20 : 20 + spot, 30 : 30 + spot] = 250
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=90)
    return sink.getvalue()


def fill(place):
    """Loose images with a bad file, a tar, and two spots that must come first."""
    store = open_store(place)
    for i in range(12):
        store.put(f"press/2026-03-02/L1/{i:02}.jpg", jpeg(i, spot=12 if i == 4 else 0))
    store.put("press/2026-03-02/L1/12.jpg", jpeg(12)[:200])
    store.put("press/2026-03-02/L1/<13> & co.jpg", b"neither picture nor markup <script>")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for i in range(6):
            header = tarfile.TarInfo(f"{i}.jpg")
            header.size = len(body := jpeg(100 + i, spot=14 if i == 2 else 0))
            archive.addfile(header, io.BytesIO(body))
    store.put("saw/2026-03-03/L2/a.tar", sink.getvalue())
    return store


@pytest.fixture
def report(capsys):
    def call(output, *arguments, code=0):
        with pytest.raises(SystemExit) as ended:
            run(main, ["--output", str(output), *(str(argument) for argument in arguments)])
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        return shown

    return call


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order; collects text and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.words, self.addresses = [], [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def read(path):
    page = Balanced()
    page.feed(path.read_text(encoding="utf-8"))
    assert not page.open
    return page, re.sub(r"\s+", " ", " ".join(page.words))


@pytest.mark.parametrize("where", ["local", "s3"])
def test_report_and_contact_sheet(where, tmp_path, report, request):
    (tmp_path / "in").mkdir()
    place = str(tmp_path / "in") if where == "local" else request.getfixturevalue("s3_bucket") + "/in"
    output = tmp_path / "out" if where == "local" else place.replace("/in", "/out")
    fill(place)
    publish(output, score_without_model(place, output, key_pattern=PATTERN))
    report(output, "--html", tmp_path / "r.html", "--png", tmp_path / "w.png", "--worst", "2")
    page, text = read(tmp_path / "r.html")
    assert all(address.startswith("data:image/") for address in page.addresses), "nothing is loaded from elsewhere"
    assert sum(address.startswith("data:image/jpeg") for address in page.addresses) == 4
    assert "20 planned = 18 scored + 2 that could not be scored" in text
    assert "a.tar › 2.jpg" in text and "04.jpg" in text, "the two with a spot"
    assert "Boxes mark" not in text and "score" in text and "region · score" not in text, "no regions were computed"
    assert "not calibrated" in text and "image is flagged" in text
    assert "lot L2 · line saw" in text and "truncated" in text and "not_an_image" in text
    assert "<13> & co.jpg" in text and "<13>" not in (tmp_path / "r.html").read_text(), "what comes from outside is escaped"
    with Image.open(tmp_path / "w.png") as sheet:
        assert sheet.width > 800


def test_regions_are_drawn_and_counted(tmp_path, report):
    (tmp_path / "in").mkdir()
    fill(str(tmp_path / "in"))
    publish(tmp_path / "out", score_without_model(tmp_path / "in", tmp_path / "out", map_threshold=60.0))
    report(tmp_path / "out", "--html", tmp_path / "r.html", "--png", tmp_path / "w.png", "--worst", "3")
    _, text = read(tmp_path / "r.html")
    assert text.count("1 region · score") == 2 and text.count("0 regions · score") == 1
    assert "Boxes mark regions" in text
    with Image.open(tmp_path / "w.png") as sheet:
        assert (np.asarray(sheet) == BOX).all(axis=-1).sum() > 2 * 60


def pictures(path):
    return re.findall(r'src="data:image/jpeg;base64,([^"]+)" alt="heat map', path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("where", ["local", "s3"])
def test_heat_maps_have_the_scale_of_the_calibration_of_the_rows(where, tmp_path, report, request):
    """The same whatever images the page shows, by the calibration that the ledger keeps, not by the copy of the model."""
    (tmp_path / "in").mkdir()
    output = tmp_path / "out" if where == "local" else request.getfixturevalue("s3_bucket") + "/out"
    fill(str(tmp_path / "in"))
    publish(output, score_without_model(tmp_path / "in", output, key_pattern=PATTERN))
    report(output, "--html", tmp_path / "own.html", "--worst", "3")
    _, text = read(tmp_path / "own.html")
    assert "One colour scale for all heat maps: 50 to 99.9 % of this scoring run, since the maps are not calibrated." in text
    made = replace(judged_ledger.calibration(judged_ledger.BY_IMAGE), map_scale=MapScale(12.5, 250.0))
    ledger = Ledger(str(output), MODEL)
    folder = judged_ledger.put_files(tmp_path / "calibration", made)
    decide(ledger, Ruling(DIGEST, "c" * 64, folder))
    rejudge(ledger)
    report(output, "--html", tmp_path / "r.html", "--worst", "3", "--png", tmp_path / "w.png")
    _, text = read(tmp_path / "r.html")
    assert "12.5 250 and above One colour scale for all heat maps: 50 to 99.9 % of good images." in text
    own, calibrated = pictures(tmp_path / "own.html"), pictures(tmp_path / "r.html")
    assert len(own) == len(calibrated) == 3 and not set(own) & set(calibrated)
    report(output, "--html", tmp_path / "one.html", "--worst", "1")
    assert pictures(tmp_path / "one.html") == calibrated[:1]
    assert "No piece could be judged: a map of 12 x 16 cells, and the calibration is for 6 x 8 (18 of 18 pieces)." in text
    ledger.store.put(ledger.calibration_key("c" * 64, JSON), b"{}")
    assert "calibration.json must have format 1; got None" in report(output, "--html", tmp_path / "no.html", code=2).err


def judged(tmp_path, **rule):
    """A calibrated model, a bad lot and a good one of real pictures, a piece that lacks a view, and one from a strange line."""
    (tmp_path / "in").mkdir()
    store, output = open_store(str(tmp_path / "in")), tmp_path / "out"
    source = SourceConfig(input_uri=store.uri, key_pattern=judged_ledger.PATTERN)
    spots = {("bad", at): 20 for at in range(9)} | {("good", 3): 14}
    rows = []
    for lot, pieces in (("bad", 10), ("good", 24)):
        for at in range(pieces):
            for camera in ("top", "side")[: 1 if (lot, at) == ("good", 0) else 2]:
                line = "9" if (lot, at) == ("good", 1) else "7"
                spot = spots.get((lot, at), 0) if camera == "top" else 0
                body = jpeg(len(rows), spot)
                store.put(f"{line}/{lot}/{at}_{camera}.png", body)
                size = {"width": 80, "height": 60, "content_hash": sha256(body).hexdigest()[:32]}
                uri = f"{store.uri}/{line}/{lot}/{at}_{camera}.png"
                rows.append(judged_ledger.image(lot, str(at), 8.0 + at if spot else 0.02 * at, camera, line, uri=uri, **size))
    number = write_slice(output, [("2026-06-01", rows)], source=source)
    judged_ledger.put_rule(output, judged_ledger.calibration(), **{"rate": "0.1", **rule})
    publish(output, number)
    return output


def test_the_page_begins_with_what_to_do_tonight(tmp_path, report):
    output = judged(tmp_path)
    report(output, "--html", tmp_path / "r.html", "--png", tmp_path / "w.png", "--worst", "100")
    _, text = read(tmp_path / "r.html")
    places = [text.index(words) for words in ("What to do tonight", "Lots to hold", "Why Pieces", "Most unusual", "raw score")]
    assert places == sorted(places)
    assert "1 lot to hold 0 lots to watch 0 lots not judged 1 lot ok 10 pieces flagged 2 pieces not judged" in text
    assert re.search(r"Why bad 2026-06-01 9 10 20 0 9 of 10 pieces flagged; a lot is held at a p of 0.05", text)
    assert (
        "10 pieces are flagged; 32 complete pieces were judged. If all of these were good, at most 3.2 would be flagged" in text
    )
    assert "At a rate of 10 %, a good piece is flagged with at most 9.9 % on average over calibrations" in text
    assert "1 of 2 views 1 1" in text and "line '9' is not in the calibration 1 2" in text
    assert (
        "flagged · piece 3 · view top rank 1 among 100 good pieces: none scores as high, p 0.0099; this image alone: p 0.0099"
        in text
    )
    assert "not judged: line '9' is not in the calibration" in text
    assert (
        "Rate 0.1; the last decision is by a test, " in text and "No verdicts" not in text and "flowscore calibrate" not in text
    )


def test_a_review_budget_is_said_with_what_it_was_worth(tmp_path, report):
    report(judged(tmp_path, review_budget=4), "--html", tmp_path / "r.html", "--worst", "1")
    _, text = read(tmp_path / "r.html")
    assert "4 pieces flagged" in text and "by chance" not in text and "9 of 10 pieces flagged" in text
    assert "Pieces are flagged by the review budget, and lots decided by the rate." in text
    assert "2026-06-01: 4 pieces to review: 0 of 100 good pieces score as high" in text
    assert "Rate 0.1, and a review budget of 4 pieces a night; the last decision is by a test" in text


def test_where_nothing_is_judged_one_line_says_why_and_what_to_do(tmp_path, report):
    (tmp_path / "in").mkdir()
    fill(str(tmp_path / "in"))
    publish(tmp_path / "out", score_without_model(tmp_path / "in", tmp_path / "out"))
    report(tmp_path / "out", "--html", tmp_path / "r.html", "--worst", "1")
    _, text = read(tmp_path / "r.html")
    assert "No image is flagged: its scores are not calibrated. flowscore calibrate --model MODEL --input GOOD_IMAGES" in text
    assert f"flowscore judge --model MODEL --output {tmp_path / 'out'}" in text and "tonight" not in text


def test_what_is_gone_is_said_in_its_place(tmp_path, report):
    (tmp_path / "in").mkdir()
    store = fill(str(tmp_path / "in"))
    publish(tmp_path / "out", score_without_model(tmp_path / "in", tmp_path / "out"))
    store.delete("saw/2026-03-03/L2/a.tar")
    store.put("press/2026-03-02/L1/04.jpg", jpeg(4))
    report(tmp_path / "out", "--html", tmp_path / "r.html", "--worst", "3")
    _, text = read(tmp_path / "r.html")
    assert "No picture: the stored object no longer exists" in text
    assert "No picture: the stored object was changed after it was scored" in text


def test_wrong_use_is_explained(tmp_path, report):
    assert "--html" in report(tmp_path, code=2).err
    assert "error: output must hold tables" in report(tmp_path, "--html", tmp_path / "r.html", code=2).err
