import pytest

from pipeline.input.config import SourceConfig
from pipeline.input.keys import ignored
from pipeline.input.listing import Listing, open_input
from pipeline.storage.store import open_store

LITTER = [
    *("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "lot/@eaDir/b.jpg@SynoEAStream", "x/.ipynb_checkpoints/a-checkpoint.png"),
    *("__MACOSX/lot/._a.jpg", "__MACOSX/a.jpg", ".thumbnails/large/1.png", "lot/Thumbs.db", "lot/ehthumbs.db", "._a.jpg"),
    *("lot/.DS_Store", "desktop.ini", "lot/Desktop.ini", "@__thumb/s100a.jpg", "#recycle/a.jpg", "$RECYCLE.BIN/S-1/a.jpg"),
    *(".AppleDouble/a.jpg", "x/.Trash-1000/files/a.jpg", "lost+found/a.jpg", "_metadata", "x/_common_metadata"),
    *("x/metadata.jsonl", "labels.tsv", "labels.json.gz", "0001.id", "0001.index", "0001.npz", "0001.transcript"),
]
IMAGES = ["eaDir/a.jpg", "MACOSX/a.jpg", "@eaDirs/a.jpg", "thumbs.db.jpg", "lot/a.png", "a", "recycle/a.jpg", "a.idx.jpg"]


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_ignored_wherever_it_stands(name):
    assert ignored(name) and ignored(f"a/b/{name}")


def test_what_is_ignored_is_counted(place):
    store = open_store(place)
    for name in (*LITTER, *IMAGES):
        store.put(name, b"x")
    listing = Listing(SourceConfig(input_uri=place), store)
    assert [entry.key for entry in listing] == sorted(IMAGES)
    assert listing.ignored == len(LITTER)


def test_members_is_about_images_and_never_about_shards(place):
    store = open_store(place)
    for name in ("a.jpg", "b/A.JPG", "a.png", "s.tar", "t.tar.zst", "p.parquet", "old.zip", "a.txt"):
        store.put(name, b"x")
    listing = Listing(SourceConfig(input_uri=place, members="*.jpg"), store)
    assert [entry.key for entry in listing] == ["a.jpg", "b/A.JPG", "old.zip", "p.parquet", "s.tar", "t.tar.zst"]
    assert listing.ignored == 2


def test_links_are_followed_when_the_config_says_so(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.jpg").write_bytes(b"image")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").symlink_to(tmp_path / "there" / "a.jpg")
    config = SourceConfig(input_uri=str(tmp_path / "in"))
    assert [entry.key for entry in Listing(config, open_input(config))] == []
    config = config.model_copy(update={"follow_links": True})
    store = open_input(config)
    assert [store.get(entry.key, entry.etag) for entry in Listing(config, store)] == [b"image"]
