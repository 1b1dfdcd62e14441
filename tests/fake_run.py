"""Makes ledgers, slices and commits like a scoring run's, without a model, as input of publication and all later steps."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.config import FULL_16_BIT
from models.maps.quantise import quantise
from models.maps.regions import find_regions
from pipeline.decode.config import DecodeConfig
from pipeline.decode.geometry import placement
from pipeline.decode.unit import decode_unit
from pipeline.input import registry
from pipeline.input.config import SourceConfig, Start
from pipeline.input.identity import image_id
from pipeline.input.listing import Listing
from pipeline.state import slices
from pipeline.state.commits import write_commit
from pipeline.state.dated_names import new_name
from pipeline.state.entries import Created, Promotion, Slice, SlicePart, add_entry, read_head
from pipeline.state.ledger import Ledger
from pipeline.state.scoring_config import SCORING_VERSION, ScoringConfig
from pipeline.state.state_file import WRITING
from pipeline.storage.store import open_store
from pipeline.tables.held import HoldLimits
from pipeline.tables.publish_slice import publish_slice
from schemas import commit
from schemas.days import is_day
from schemas.footer import Footer, StageSeconds
from schemas.inventory import OBJECTS
from schemas.plan import SCHEMA, PlannedObject, Unit, unit_table

MODEL, DIGEST = "tiles", "d" * 64
INPUT = "s3://line"
SOURCE = SourceConfig(input_uri=INPUT, key_pattern="{line}/{product}/{name}")
FIRST = 3
"""Number of a ledger's first slice here: entries 1 and 2 create it and promote a model."""
ARTIFACT = {
    **{"name": MODEL, "detector": "padim", "backbone": {"name": "resnet18"}, "precision": "float32", "batch_size": 8},
    "trained": {"images": 100},
}
CAPTURED = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)


def scored(name: str, score: float, uri: str | None = None, **columns) -> dict:
    """A commit row of an image with a score, a map and one region; it counts the `regions` in `columns`."""
    uri = uri or f"{INPUT}/{name}"
    seed = int(hashlib.sha256(f"{name}{score}".encode()).hexdigest()[:8], 16)
    anomaly_map = np.random.default_rng(seed).gamma(2.0, 0.5, (6, 8)).astype(np.float32)
    cells, scale, offset = quantise(anomaly_map)
    region = {
        "centroid_x": 15.0,
        "centroid_y": 20.0,
        "x0": 1,
        "y0": 2,
        "x1": 30,
        "y1": 40,
        "area_px": 9.5,
        "peak": 3.5,
        "mass": 12.0,
    }
    regions = columns.get("regions", [region])
    return {
        **_identity(name, uri),
        "content_hash": hashlib.sha256(name.encode()).hexdigest()[:32],
        "bytes": 1000 + len(name),
        "width": 120,
        "height": 90,
        "captured_at": CAPTURED,
        "brightness": 100.0,
        "contrast": 20.0,
        "sharpness": 5.0,
        "score": score,
        "map": cells,
        "map_height": 6,
        "map_width": 8,
        "map_scale": scale,
        "map_offset": offset,
        "embedding": np.arange(32, dtype=np.float16).tobytes(),
        "regions": regions,
        "region_count": None if regions is None else len(regions),
        **columns,
    }


def failed(name: str, error: str = "truncated", uri: str | None = None, **columns) -> dict:
    """A commit row of an image that could not be read."""
    uri = uri or f"{INPUT}/{name}"
    fault = {"stage": "decode", "error": error, "message": f"{name} ends early", "byte_offset": 17}
    return {**_identity(name, uri), **fault, **columns}


def _identity(name: str, uri: str) -> dict:
    member = None if uri.endswith(name) else name
    keys = [("line", "7"), ("product", "tile")]
    return {"image_id": image_id(uri, member), "uri": uri, "member": member, "key": name, "keys": keys, "lot": "lot1"}


def write_slice(
    output_uri: str,
    content: list[tuple[str, list[dict]]],
    model: str = MODEL,
    skip: tuple[int, ...] = (),
    streams: dict[int, int] | None = None,
    ignored: int = 0,
    source: SourceConfig = SOURCE,
    digest: str = DIGEST,
    parts: int = 1,
) -> int:
    """Seal a slice as the next entry of the model's ledger, and commit its units; returns its number.

    Args:
        content: date and commit rows of each unit. Objects that an earlier slice holds are planned again.
        skip: numbers of units that get no commit.
        streams: for each unit that is a tar stream, the number of images per part.
        ignored: the number of ignored members in each commit.
        parts: of the slice; its units are dealt out to them in order.
    """
    ledger, streams = Ledger(str(output_uri), model), streams or {}
    scoring = ScoringConfig(model=model, model_digest=digest, source=source, decode=DecodeConfig(height=48, width=64))
    number = _next(ledger, source, digest)
    planned = [
        Unit(
            number=i,
            unit_id=unit_id(number, i, model=model),
            source="tar" if i in streams else "files",
            date=date,
            scoring=0,
            objects=tuple(PlannedObject(uri.removeprefix(f"{source.input_uri}/"), 10, "e") for uri in _uris(rows)),
            images=None if i in streams else len(rows),
            size=10 * len(rows),
        )
        for i, (date, rows) in enumerate(content)
    ]
    _seal(ledger, number, scoring, planned, parts)
    for i, (date, rows) in enumerate(content):
        size = streams.get(i, max(1, len(rows)))
        commits = [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]
        for part, images in enumerate(commits):
            if i not in skip:
                _commit(ledger, number, i, part, date, images, part == len(commits) - 1, ignored)
    return number


def publish(output_uri: str, number: int, model: str = MODEL) -> None:
    """Bring a slice into the tables, whatever its errors."""
    publish_slice(Ledger(str(output_uri), model), number, HoldLimits(accept=True))


def published(output_uri: str, content: list[tuple[str, list[dict]]], **options) -> int:
    """`write_slice` and `publish`; returns the slice's number."""
    number = write_slice(output_uri, content, **options)
    publish(output_uri, number, options.get("model", MODEL))
    return number


def run_id(number: int = FIRST, model: str = MODEL) -> str:
    """What names a slice in the tables."""
    return Ledger("", model).run_id(number)


def unit_id(number: int, unit: int, part: int = 0, model: str = MODEL) -> str:
    return hashlib.sha256(f"{model}/{number}/{unit}/{part}".encode()).hexdigest()[:32]


def _next(ledger: Ledger, source: SourceConfig, digest: str) -> int:
    """The number after the ledger's last entry; makes a new ledger, and promotes a digest that is not the last one's."""
    head = read_head(ledger)
    if not head.number:
        add_entry(ledger, head, Created(image_id=source.image_id, key_pattern=source.key_pattern))
    if head.digest != digest:
        add_entry(ledger, read_head(ledger), Promotion(digest=digest, artifact=ARTIFACT))
    return read_head(ledger).number + 1


def _uris(rows: list[dict]) -> list[str]:
    return list(dict.fromkeys(row["uri"] for row in rows))


def _seal(ledger: Ledger, number: int, scoring: ScoringConfig, planned: list[Unit], parts: int = 1) -> None:
    """Write the slice's parts and its entry."""
    head, source = read_head(ledger), scoring.source
    before = {
        name: earlier
        for earlier in head.slices
        for table in slices.objects(ledger, earlier, ["object"])
        for name in table["object"].to_pylist()
    }
    dates = {source.identity_base + entry.key: unit.date for unit in planned for entry in unit.objects}
    names = sorted(dates, key=str.encode)
    written = []
    for part in range(parts):
        units = planned[part * len(planned) // parts : (part + 1) * len(planned) // parts]
        mine = names[part * len(names) // parts : (part + 1) * len(names) // parts]
        rows = [{"object": name, "etag": "e", "stamp": "s", "date": dates[name], "before": before.get(name)} for name in mine]
        name = new_name()
        _put(ledger, ledger.part_key(name, "units"), unit_table(units), SCHEMA, 64)
        _put(ledger, ledger.part_key(name, "objects"), pa.Table.from_pylist(rows, OBJECTS), OBJECTS, 16_384)
        first = units[0].number if units else len(planned)
        written.append(SlicePart(name=name, first=first, objects=len(rows), units=len(units)))
    days = [date for date in dates.values() if is_day(date)] + ([head.last_day] if head.last_day else [])
    promoted = {promotion.digest: promotion.number for promotion in head.promotions}
    places = {source.input_uri, *(uri for name, uri in head.places if name == source.input_name)} if source.input_name else ()
    entry = Slice(
        parts=tuple(written),
        scorings=(scoring,),
        promotions=(promoted[scoring.model_digest],),
        places=tuple(sorted(places)),
        objects=len(names),
        units=len(planned),
        images=sum(unit.images or 0 for unit in planned),
        streams=sum(unit.images is None for unit in planned),
        size=sum(unit.size for unit in planned),
        ignored=3,
        replans=sum(name in before for name in names),
        last_day=max(days, default=None),
        planned_at="2026-01-03T00:00:00+00:00",
        code_version="0.1.0",
    )
    assert number == head.number + 1 and add_entry(ledger, head, entry)


def _put(ledger: Ledger, key: str, rows: pa.Table, schema: pa.Schema, row_group_rows: int) -> None:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", store_schema=False, **WRITING) as writer:
        writer.write_table(rows.cast(schema), row_group_size=row_group_rows)
    ledger.store.put_new(key, sink.getvalue().to_pybytes())


def _commit(ledger: Ledger, number: int, unit: int, part: int, date: str, images: list[dict], last: bool, ignored: int) -> None:
    rows = [{"position": position, **image} for position, image in enumerate(images)]
    errors = sum(row.get("error") is not None for row in rows)
    footer = Footer(
        unit_id=unit_id(number, unit, part, ledger.model),
        slice=number,
        number=unit,
        part=part,
        date=date,
        scored=len(rows) - errors,
        errors=errors,
        next_offset=None if last else 512 * (part + 1),
        device="cpu-float32",
        hardware="CPU with AVX2, torch 2.15.0",
        scoring_version=SCORING_VERSION,
        bytes_read=100 * len(rows),
        ignored=ignored,
        seconds=StageSeconds(read=0.25, decode=0.5, score=1.0, wait=0.5),
    )
    write_commit(ledger.store, ledger.commit_key(number, unit, part), pa.Table.from_pylist(rows, commit.SCHEMA), footer)


def score_without_model(
    input_uri: str,
    output_uri: str,
    model: str = MODEL,
    map_threshold: float | None = None,
    digest: str = DIGEST,
    white_level: int = FULL_16_BIT,
    **source,
) -> int:
    """Cut, read and decode a real input as a scoring run does; the committed map and score are distances from mean grey.

    Returns:
        The number of the slice, which holds all of the input; `publish` brings it into the tables.
    """
    store = open_store(str(input_uri))
    config = SourceConfig(input_uri=store.uri, **source)
    decode = DecodeConfig(height=48, width=64, resize="pad", white_level=white_level)
    scoring = ScoringConfig(model=model, model_digest=digest, source=config, decode=decode)
    ledger = Ledger(str(output_uri), model)
    number = _next(ledger, config, digest)
    by_source: dict[str, list] = {}
    for entry in Listing(config, store):
        name = registry.claiming(entry.key)
        by_source.setdefault(name, []).append(config.dated(entry, name))
    contents = [
        content for name, dated in by_source.items() for content in registry.source(name).plan(iter(dated), config, store)
    ]
    planned = [
        Unit(number=i, unit_id=unit_id(number, i, model=model), scoring=0, **vars(content))
        for i, content in enumerate(contents)
    ]
    _seal(ledger, number, scoring, planned)
    for unit in planned:
        pieces = list(registry.source(unit.source).read(unit, store, config, Start()))
        for part, piece in enumerate(pieces):
            decoded = decode_unit(piece.table, scoring.decode)
            rows = decoded.table.to_pylist()
            for row, pixels in zip(rows, decoded.pixels, strict=True):
                if row["error"] is None:
                    grey = pixels.mean(axis=2, dtype=np.float32)
                    cells = np.abs(grey - grey.mean()).reshape(12, 4, 16, 4).max(axis=(1, 3))  # (12, 16)
                    row["map"], row["map_scale"], row["map_offset"] = quantise(cells)
                    row |= {"score": float(cells.max()), "map_height": 12, "map_width": 16}
                    if map_threshold is not None:
                        found = find_regions(cells, map_threshold, placement((row["width"], row["height"]), scoring.decode))
                        row |= {"regions": [region._asdict() for region in found.regions], "region_count": found.count}
            _commit(ledger, number, unit.number, part, unit.date, rows, piece is pieces[-1], piece.ignored)
    return number
