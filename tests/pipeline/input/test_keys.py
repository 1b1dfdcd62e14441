import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.input.config import SourceConfig
from pipeline.input.keys import KeyPattern, ignored


@pytest.mark.parametrize(
    ("pattern", "key", "found"),
    [
        (
            "{line}/{date}/{lot}/{name}",
            "A/2026-01-02/7/x.jpg",
            {"line": "A", "date": "2026-01-02", "lot": "7", "name": "x.jpg"},
        ),
        ("{line}/{name}", "A/b/c/x.jpg", {"line": "A", "name": "b/c/x.jpg"}),
        ("{line}/{name}", "x.jpg", None),
        ("{line}/{date}/{lot}/{name}", "A//7/x.jpg", None),
        ("{product}-{lot}/{name}.jpg", "p-q-7/a/b.jpg", {"product": "p", "lot": "q-7", "name": "a/b"}),
        ("{product}-{lot}/{name}.jpg", "p-7/a.png", None),
        ("cam{camera}/img_{date}_{serial}.png", "cam2/img_2026_9_1.png", {"camera": "2", "date": "2026", "serial": "9_1"}),
        ("a.b/{name}", "axb/c", None),
        ("{lot}/{name}", "ü l/ñ\n😀.png", {"lot": "ü l", "name": "ñ\n😀.png"}),
        ("{lot}", "a/b", None),
    ],
)
def test_match(pattern, key, found):
    assert KeyPattern(pattern).match(key) == found


@pytest.mark.parametrize(
    ("pattern", "shard", "date"),
    [
        ("{line}/{date}/{name}", "A/2026-01-02/s.tar", "2026-01-02"),
        ("{line}/{date}/{name}", "A/s.tar", None),
        ("{line}/{date}/{lot}/{name}", "A/2026-01-02", None),
        ("{line}/{date}.tar/{lot}/{name}", "A/2026-01-02.tar", "2026-01-02"),
        ("{line}/{date}.tar", "A/2026-01-02.tar", "2026-01-02"),
        ("{line}/{date}.tar", "A/2026-01-02.tar.gz", None),
        ("{line}-{date}_{shift}/{name}", "A-2026_n/s.tar", "2026"),
        ("{line}/{name}", "A/2026/s.tar", None),
        ("date/{line}/{date}/{name}", "date/A/2026/s.tar", "2026"),
    ],
)
def test_the_date_of_a_shard_is_read_from_its_own_path(pattern, shard, date):
    assert KeyPattern(pattern).shard_date(shard) == date


@pytest.mark.parametrize(
    ("pattern", "rule"),
    [
        ("", "at least one field"),
        ("a/b", "at least one field"),
        ("{lot", "braces in pairs"),
        ("lot}/{name}", "braces in pairs"),
        ("{}/{name}", "lower case"),
        ("{Lot}/{name}", "lower case"),
        ("{my lot}/{name}", "lower case"),
        ("{lot}/{lot}", "every field once"),
        ("{line}{lot}/{name}", "text between"),
        ("{score}/{name}", "table column"),
        ("{image_id}/{name}", "table column"),
    ],
)
def test_a_bad_pattern_says_what_is_wrong(pattern, rule):
    with pytest.raises(ValueError, match=rule) as caught:
        SourceConfig(input_uri="x", key_pattern=pattern)
    assert repr(pattern) in str(caught.value)


def test_keys_and_dates_of_a_source():
    config = SourceConfig(input_uri="x", key_pattern="{line}/{date}/{shard}/{lot}/{name}", date="2026-12-31")
    assert config.day("A/2026-01-01/s/7/x.jpg", shard=False) == "2026-01-01"
    assert config.day("x.jpg", shard=False) == "2026-12-31"
    assert config.day("A/2026-01-01/s.tar", shard=True) == "2026-01-01"
    assert config.day("s.tar", shard=True) == "2026-12-31"
    whole = {"line": "A", "date": "2026-01-01", "shard": "s.tar", "lot": "7", "name": "x.jpg"}
    assert config.keys("A/2026-01-01/s.tar", "7/x.jpg") == whole
    assert config.keys("A/2026-01-01/s.tar") == config.keys("x.jpg") == {}
    assert SourceConfig(input_uri="x", key_pattern="{lot}.tar").keys("7.tar", "x.jpg") == {"lot": "7"}
    assert SourceConfig(input_uri="x").keys("a/b") == {} and SourceConfig(input_uri="x").day("a/b", shard=False) == "none"


def test_names_that_are_never_images():
    for key in (
        ".hidden",
        "a/.b/c.jpg",
        "a/._b.jpg",
        "a/",
        "labels.JSON",
        "a.txt",
        "Thumbs.db",
        "x/_SUCCESS",
        "t/_delta_log/0",
    ):
        assert ignored(key), key
    for key in ("a.jpg", "_DSC1.JPG", "a.json.jpg", "./a.jpg", "../a.jpg", "a", "a.b/c"):
        assert not ignored(key), key


PARTS = (
    ".",
    "..",
    "...",
    ".a",
    "a",
    "",
    "A.TXT",
    "b.json",
    ".json",
    "_delta_log",
    "_Flowscore",
    "x_delta_log",
    "thumbs.db",
    "\n",
)


@given(st.lists(st.sampled_from(PARTS) | st.text(alphabet="./_atx\n", max_size=6), min_size=1, max_size=4))
def test_a_key_is_ignored_for_one_of_its_parts_or_the_end_of_its_name(parts):
    key = "/".join(parts)
    *folders, name = key.lower().split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in (*folders, name))
    ours = not {"_flowscore", "_delta_log"}.isdisjoint((*folders, name))
    litter = name in ("_success", "thumbs.db", "desktop.ini")
    sidecar = name.endswith((".json", ".txt", ".cls", ".csv", ".xml", ".yaml", ".yml", ".npy", ".idx", ".md"))
    assert ignored(key) == (not name and bool(folders) or hidden or ours or litter or sidecar)


@pytest.mark.parametrize("key", ["-" * 3000, "-" * 3000 + ".jpg", "a-" * 1500 + "b.png"])
def test_a_key_of_many_separators_takes_no_longer_for_more_fields(key):
    """Tried out in all ways, the second field of four would take minutes for a key of 500 characters."""
    found = KeyPattern("{a}-{b}-{c}-{d}-{e}.jpg").match(key)
    assert (found is not None) == key.endswith(".jpg")


NULL = "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.parametrize(
    ("pattern", "key", "date", "keys"),
    [
        ("date={date}/{name}", f"date={NULL}/a.jpg", "none", {"name": "a.jpg"}),
        ("{date}/{name}", f"date={NULL}/a.jpg", "none", {"name": "a.jpg"}),
        (
            "line={line}/date={date}/{name}",
            f"line={NULL}/date=2026-01-01/a.jpg",
            "2026-01-01",
            {"date": "2026-01-01", "name": "a.jpg"},
        ),
        ("line={line}/lot={lot}/{name}", f"line=7/lot={NULL}/a.jpg", "none", {"line": "7", "name": "a.jpg"}),
        ("date={date}/{name}", "date=HIVE/a.jpg", "HIVE", {"date": "HIVE", "name": "a.jpg"}),
    ],
)
def test_the_null_of_a_hive_folder_is_no_value(pattern, key, date, keys):
    config = SourceConfig(input_uri="x", key_pattern=pattern)
    assert (config.day(key, shard=False), config.keys(key)) == (date, keys)
    assert config.day(key.replace(".jpg", ".tar"), shard=True) == date
    assert config.keys(key.replace("a.jpg", "s.tar"), "m.jpg").keys() == keys.keys()
    assert config.model_copy(update={"date": "2026-12-31"}).day(key, shard=False) == ("2026-12-31" if date == "none" else date)


def test_the_null_of_a_hive_folder_is_no_day_to_set():
    with pytest.raises(ValueError, match="date must be a day"):
        SourceConfig(input_uri="x", date=NULL)


@pytest.mark.parametrize("name", ["piece", "view", "verdict", "stage", "error", "message", "byte_offset"])
def test_a_field_has_no_name_of_a_column_of_scores_or_errors(name):
    with pytest.raises(ValueError, match=f"not use the name of a table column; '{name}' is one"):
        KeyPattern("{lot}/{" + name + "}.png")
