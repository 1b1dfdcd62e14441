from pipeline.state.numbered import LAST, Numbered
from pipeline.storage.store import open_store


def test_the_newest_is_listed_first_and_numbers_are_never_taken_twice(tmp_path):
    numbered = Numbered(open_store(str(tmp_path)), "entries")
    assert numbered.newest() == 0 and numbered.after(0) == []
    for number in (1, 2, 3, 10, 999, 100_000):
        assert numbered.put_new(number, b"%d" % number)
    assert not numbered.put_new(10, b"other")
    assert numbered.get(10) == b"10"
    assert numbered.newest() == 100_000
    assert numbered.after(2) == [3, 10, 999, 100_000]
    assert numbered.after(100_000) == []
    assert next(iter(numbered.store.list("entries/"))).key == numbered.key(100_000)


def test_a_key_shows_its_number_to_people():
    assert Numbered(None, "published").key(12) == f"published/9999/{LAST - 12}-000012.json"
