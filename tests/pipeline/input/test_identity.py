import hashlib

import pytest

from pipeline.input.config import SourceConfig
from pipeline.input.identity import canonical_uri, content_hash, image_id
from pipeline.storage.store import open_store


def test_an_id_is_128_bits_of_sha256_over_parts_with_their_lengths():
    assert image_id("s3://b/k") == hashlib.sha256(b"8:s3://b/k").hexdigest()[:32]
    assert image_id("s3://b/k", "ü.jpg", 2) == hashlib.sha256("8:s3://b/k6:ü.jpg1:2".encode()).hexdigest()[:32]


def test_these_ids_never_change():
    assert image_id("s3://plant/line1/a.jpg") == "a99ec3b8d47a06a9e9649ea1569b08e4"
    assert image_id("s3://plant/shard.tar", "a.jpg") == "c8160f794a2fa6801a7b413143ef0be2"
    assert image_id("s3://plant/shard.tar", "a.jpg", 1) == "15d2939fc20f32302ae64494c710ee78"


def test_no_two_lists_of_parts_read_the_same():
    parts = [("a",), ("a", ""), ("a", "", 1), ("a", "b"), ("ab", ""), ("", "ab"), ("a1:b", ""), ("a", "1:b"), ("a", "b", 1)]
    assert len({image_id(*part) for part in parts}) == len(parts)


def test_uris_name_neither_endpoint_nor_credentials_and_keep_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:word@10.0.0.1:9000")
    assert canonical_uri(open_store("s3://b/p/").uri, "//x/../ü %2F?") == "s3://b/p///x/../ü %2F?"
    monkeypatch.chdir(tmp_path)
    assert canonical_uri(open_store(".").uri, "a b.jpg") == f"file://{tmp_path}/a b.jpg"


def test_an_input_that_moves_keeps_the_identities_of_its_objects():
    here, there = (SourceConfig(input_uri=uri, image_id="key", input_name="line1") for uri in ("s3://here", "file:///mnt/x"))
    assert here.identity("s3://here/a/b.jpg") == there.identity("file:///mnt/x/a/b.jpg") == "key://line1/a/b.jpg"
    assert SourceConfig(input_uri="s3://here").identity("s3://here/a/b.jpg") == "s3://here/a/b.jpg"


@pytest.mark.parametrize("source", [{"image_id": "key"}, {"input_name": "line1"}, {"image_id": "uri", "input_name": "line1"}])
def test_two_inputs_need_two_names(source):
    with pytest.raises(ValueError, match="input_name must be given with image_id key, and only then"):
        SourceConfig(input_uri="s3://here", **source)


def test_contents_are_named_by_their_hash():
    assert content_hash(b"picture") == hashlib.sha256(b"picture").hexdigest()[:32]
