import pyarrow as pa

from pipeline.tables.identities import identities, identity_bounds

BASES = (("s3://old/in/", "key://7/"), ("s3://new/é/", "key://7/"), ("s3://old/in/deep/", "key://8/"))


def test_uris_are_their_own_identities_without_bases():
    uris = pa.array(["s3://old/in/a", "b"])
    assert identities(uris, ()).equals(uris) and identity_bounds("a", "b", ()) == ("a", "b")


def test_an_object_keeps_its_identity_where_its_input_moves():
    uris = ["s3://old/in/a/é 😀", "s3://new/é/a/é 😀", "s3://old/in/deep/x", "s3://old/in", "s3://elsewhere/a", "s3://old/in/"]
    expected = ["key://7/a/é 😀", "key://7/a/é 😀", "key://8/x", "s3://old/in", "s3://elsewhere/a", "key://7/"]
    assert identities(pa.array(uris), BASES).to_pylist() == expected
    assert identities(pa.chunked_array([uris[:2], uris[2:]]), BASES).to_pylist() == expected
    assert identities(pa.array([], pa.string()), BASES).to_pylist() == []


def test_bounds_hold_for_what_is_between_or_are_unknown():
    assert identity_bounds("s3://new/é/a", "s3://new/é/z", BASES) == ("key://7/a", "key://7/z")
    assert identity_bounds("s3://new/é/a", "s3://old/in/z", BASES) is None
    assert identity_bounds("s3://old/in/a", "s3://old/in/z", BASES) is None, "another base lies between"
    assert identity_bounds("s3://ne", "s3://new/é/z", BASES) is None, "a bound that another program has shortened"
