import hashlib
import json

import numpy as np

from models.roi.region import RegionOfInterest
from pipeline.decode.config import DecodeConfig
from pipeline.input.config import SourceConfig
from pipeline.state.scoring_config import ScoringConfig
from schemas.plan import PlannedObject, RowRange, UnitContent


def canonical(**decode):
    source = SourceConfig(input_uri="file:///in")
    config = ScoringConfig(model="m", model_digest="d", source=source, decode=DecodeConfig(height=8, width=8, **decode))
    return json.loads(config.canonical())["decode"]


def test_the_scale_names_a_unit_only_where_it_changes_a_score():
    assert "scale" not in canonical() and "scale" not in canonical(resize="pad", scale=0.5)
    assert canonical(resize="tile", scale=0.5)["scale"] == 0.5


def test_the_memory_of_a_decoder_names_no_unit():
    assert canonical(max_decode_bytes=1 << 30) == canonical() and "max_decode_bytes" not in canonical()


def test_the_decoder_names_a_unit_where_it_is_not_the_cpu():
    assert "decoder" not in canonical() and canonical(decoder="cuda")["decoder"] == "cuda"


def test_the_region_of_interest_is_named_by_the_models_digest_alone():
    assert canonical(roi=RegionOfInterest.of(np.eye(4, dtype=bool))) == canonical() and "roi" not in canonical()
    assert "roi" not in DecodeConfig(height=8, width=8).model_dump()


def test_how_images_are_explained_names_a_unit():
    source = SourceConfig(input_uri="file:///in")
    plain = ScoringConfig(model="m", model_digest="d", source=source, decode=DecodeConfig(height=8, width=8))
    unit = UnitContent(source="files", date="none", objects=(), images=0, size=0)
    configs = [plain, *(plain.model_copy(update={"explain": method}) for method in ("gradient", "grad_cam"))]
    assert len({config.unit_id(unit, 3) for config in configs}) == 3


def test_what_a_units_id_is_made_of():
    source = SourceConfig(input_uri="file:///in")
    config = ScoringConfig(model="m", model_digest="d", source=source, decode=DecodeConfig(height=8, width=8))
    objects = (PlannedObject("é/a.jpg", 1, "e"), PlannedObject("é/b.jpg", 2, "f"))
    whole = UnitContent(source="files", date="2026-01-01", objects=objects, images=2, size=3)
    rows = UnitContent(source="parquet", date="none", objects=objects[:1], rows=RowRange(5, 10), images=10, size=3)
    hashed = {
        whole: '{"objects":[["é/a.jpg",1,"e"],["é/b.jpg",2,"f"]],"rows":[0,-1],"slice":3,"source":"files"}',
        rows: '{"objects":[["é/a.jpg",1,"e"]],"rows":[5,10],"slice":3,"source":"parquet"}',
    }
    for unit, text in hashed.items():
        assert config.unit_id(unit, 3) == hashlib.sha256((config.canonical() + text).encode()).hexdigest()[:32]


def test_what_is_read_names_a_unit():
    unit = UnitContent(source="files", date="none", objects=(), images=0, size=0)

    def unit_id(**source):
        settings = SourceConfig(input_uri="file:///in", **source)
        decode = DecodeConfig(height=8, width=8)
        return ScoringConfig(model="m", model_digest="d", source=settings, decode=decode).unit_id(unit, 3)

    variants = [{}, {"members": "*.jpg"}, {"follow_links": True}, {"members": "*.png", "follow_links": True}]
    assert len({unit_id(**source) for source in variants}) == 4
    assert unit_id(read_threads=3) == unit_id(max_parse_bytes=1 << 30) == unit_id(), "limits of the machine name nothing"
