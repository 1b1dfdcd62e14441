import json
from dataclasses import replace

from pipeline.state.publications import Change, Closed, DataFile, Manifest, Publications, Seal


def manifest(number, slice_number, skipped=(), model="tiles"):
    file = DataFile("model=tiles/period=2026-01/a.parquet", 10, {"model": "tiles", "period": "2026-01"}, '{"numRecords": 1}')
    return Manifest(
        number, "attempt", model, "slice", slice_number, tuple(skipped), {"scores": Change((file,), (), "00")}, "now"
    )


def test_manifests_and_seals_are_read_as_they_were_written(tmp_path):
    written = manifest(1, 3, [2])
    assert Manifest.parse(written.text()) == written
    json.loads(written.text())
    seal = Seal(1, {"scores": 4}, {"tiles": Closed(1, 3, (2,))}, "now")
    publications = Publications(str(tmp_path))
    assert publications.last_seal() == Seal()
    publications.manifests.put_new(1, written.text())
    publications.seals.put_new(1, seal.text())
    assert publications.last_seal() == publications.seal(1) == seal
    assert publications.manifest(1) == written


def test_which_slices_are_closed_in_whatever_order_they_are_published():
    closed = Closed().after(manifest(1, 3))
    assert closed == Closed(1, 3) and closed.holds(2) and not closed.holds(4)
    closed = closed.after(manifest(2, 7, [4, 6]))
    assert closed == Closed(2, 7, (4, 6))
    assert [number for number in range(1, 9) if not closed.holds(number)] == [4, 6, 8]
    closed = closed.after(manifest(3, 4))
    assert closed == Closed(3, 7, (6,)) and closed.holds(4)
    assert closed.after(manifest(4, None)) == Closed(4, 7, (6,))


def test_which_slices_have_nights_that_were_not_charted_yet():
    charting = replace(manifest(9, None), kind="drift")
    closed = Closed().after(manifest(1, 3)).after(manifest(2, 7, [4, 6]))
    assert closed.uncharted == 1
    closed = closed.after(charting)
    assert closed.uncharted is None and closed.still_open == (4, 6)
    assert closed.after(manifest(4, None)).uncharted is None, "a compaction brings no night"
    late = closed.after(manifest(4, 6))
    assert late.uncharted == 6 and late.after(manifest(5, 9, [8])).uncharted == 6
    assert late.after(charting).uncharted is None
    assert closed.after(manifest(4, 9, [8])).uncharted == 9
    ruled = closed.after(replace(manifest(4, None), kind="verdicts", judged=12))
    assert ruled.uncharted == 0, "another rule may have another calibration"
    charted = ruled.after(charting)
    assert charted.uncharted is None
    rekeyed = charted.after(replace(manifest(6, None), kind="rekey", rekey=13))
    assert rekeyed.after(replace(manifest(7, None), kind="verdicts", judged=12)).uncharted == 0
    assert Seal.parse(Seal(1, {}, {"tiles": late}, "now").text()).closed("tiles") == late


def test_seals_of_earlier_versions_are_read():
    """Nothing was charted by them."""
    text = json.loads(Seal(1, {}, {"tiles": Closed(1, 3)}, "now").text())
    old = {name: value for name, value in text["ledgers"]["tiles"].items() if not name.startswith("charted")}
    read = Seal.parse(json.dumps(text | {"ledgers": {"tiles": old}}).encode())
    assert read.closed("tiles") == Closed(1, 3) and read.closed("tiles").uncharted == 1
