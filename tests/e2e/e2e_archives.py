import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.command.config import load
from jobs.score import score
from jobs.settings.scoring import ScoreSettings
from models import artifact
from pipeline.input.listing import Listing, open_input
from pipeline.state.plan import Wanted, plan_slice
from pipeline.state.promotion import prepare_ledger
from pipeline.tables.query import open_tables

ROOT = Path(__file__).parents[2]


def command(*arguments, check=True, timeout=300, env=None):
    """Run `flowscore ARGUMENTS` as a user does, in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if check and done.returncode:
        raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def picture(seed, size=(72, 64)):
    """A grey surface with a seeded scratch, as an RGB PIL image."""
    rng = np.random.default_rng(seed)
    surface = rng.normal(128, 12, size[::-1])
    surface += 20 * np.sin(np.arange(size[0]) / 3 + seed)
    if seed % 7 == 0:
        surface[size[1] // 2, :] = 255
    return Image.fromarray(np.clip(surface, 0, 255).astype(np.uint8)).convert("RGB")


def encoded(seed, form="PNG", **options):
    sink = io.BytesIO()
    picture(seed).save(sink, form, **options)
    return sink.getvalue()


def write_files(folder, images):
    for name, content in images.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_tars(folder, images, per_shard=20):
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(images)
    for start in range(0, len(names), per_shard):
        with tarfile.open(folder / f"shard-{start:05d}.tar", "w") as tar:
            for name in names[start : start + per_shard]:
                member = tarfile.TarInfo(name)
                member.size = len(images[name])
                tar.addfile(member, io.BytesIO(images[name]))
    return folder


def write_parquet(folder, images, per_shard=30):
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(images)
    for start in range(0, len(names), per_shard):
        chunk = names[start : start + per_shard]
        table = pa.table({"name": chunk, "image": pa.array([images[name] for name in chunk], pa.binary())})
        pq.write_table(table, folder / f"part-{start:05d}.parquet")
    return folder


def upload(store, folder):
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        store.put(str(path.relative_to(folder)), path.read_bytes())


def settings(model, input, output, source=None, **more):
    return load(
        ScoreSettings,
        None,
        model=str(model),
        input=str(input),
        output=str(output),
        source={"unit_images": 8, **(source or {})},
        resources={"threads": 1},
        **more,
    )


def run_score(model, input, output, **more):
    result = score(settings(model, input, output, **more))
    assert (result.open, result.held) == ({}, {}), result
    return result


def scores(output, by="image_id"):
    """`by` (image_id or content_hash) -> (score, map bytes, map scale, map offset); it checks that every image occurs once."""
    rows = (
        open_tables(str(output))
        .connection.execute(
            f"select s.{by}, s.score, m.map, m.map_scale, m.map_offset from scores s join maps m using (image_id)"
        )
        .fetchall()
    )
    found = {name: tuple(rest) for name, *rest in rows}
    assert len(found) == len(rows), f"a {by} occurs twice"
    return found


def with_threshold(model, copy, threshold):
    """A copy of the model that marks regions above the threshold."""
    marking = shutil.copytree(model, copy)
    config = artifact.read(model).config.model_copy(update={"map_threshold": threshold})
    (marking / artifact.CONFIG).write_text(artifact.file_text(config.model_dump(mode="json")))
    artifact.write_digests(marking)
    return marking


def seal_slice(run):
    """Seal the slice that a run would score first, and leave it there; returns its number."""
    head = prepare_ledger(run.ledger, run.created, run.trained, run.from_now_on)
    store = open_input(run.source)
    number = plan_slice(
        run.ledger, Wanted(store, lambda: Listing(run.source, store), lambda digest: run.scoring(digest, run.trained.config))
    )
    assert number == head.number + 1
    return number


def tree_hash(folder):
    """One hash over the names and bytes of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()
