"""Rows 1, 2, 3, 6, 8 of the design's table of bad input go through the whole job; row 9 is in test_score.py."""

import io
import shlex
import shutil
import tarfile
from collections import Counter

import pytest
from e2e_archives import command, encoded, run_score, seal_slice, settings, write_files, write_tars
from PIL import Image

from jobs.command.errors import ErrorShareError
from jobs.score import prepare, report, score
from pipeline.tables.delta import open_table
from pipeline.tables.query import open_tables

GOOD = {f"good/{i:03d}.png": encoded(i) for i in range(24)}


def saved(image, form, **options):
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def bad_files():
    """name -> (content, error code): at least three of each kind."""
    jpegs = [encoded(i, "JPEG") for i in range(3)]
    pngs = [encoded(i) for i in range(3)]
    bomb = [Image.new("1", (w, h)) for w, h in ((20_000, 20_000), (30_000, 10_000), (15_000, 15_000))]
    floating = [Image.new("F", (32, 32), value) for value in (0.5, float("nan"), float("inf"))]
    kinds = {
        "truncated": [jpegs[0][:-200], jpegs[1][: len(jpegs[1]) // 2], pngs[2][: len(pngs[2]) // 2]],
        "empty": [b"", b"", b""],
        "not_an_image": [b"hello", b"camera 3 offline\n" * 40, bytes(range(256)) * 4],
        "too_many_pixels": [saved(image, "PNG") for image in bomb],
        "too_much_memory": [saved(Image.new(mode, (9000, 9000)), "PNG") for mode in ("RGB", "RGBA", "I;16")],
        "unsupported_format": [saved(image, "TIFF") for image in floating],
        "corrupt": [png[:60] + b"\xff\x00" * 20 + png[100:] for png in pngs],
    }
    return {f"bad/{kind}-{i}.png": (body, kind) for kind, bodies in kinds.items() for i, body in enumerate(bodies)}


def errors(output):
    question = "select uri, member, stage, error, message, byte_offset from errors"
    return open_tables(str(output)).connection.execute(question).fetchall()


def scored(output):
    return open_tables(str(output)).connection.execute("select count(*), count(distinct image_id) from scores").fetchone()


def test_row_1_bad_files_become_errors_and_the_rest_is_scored(model, ray_here, tmp_path):
    bad = bad_files()
    write_files(tmp_path / "in", GOOD | {name: body for name, (body, _) in bad.items()})
    limits = {"limits": {"max_error_share": 0.9}, "max_image_pixels": 100_000_000, "max_decode_bytes": 256 << 20}
    run_score(model, tmp_path / "in", tmp_path / "out", **limits)
    assert scored(tmp_path / "out") == (len(GOOD), len(GOOD))
    found = {uri.split("/in/")[1]: (stage, error) for uri, _, stage, error, message, _ in errors(tmp_path / "out") if message}
    assert found == {name: ("decode", kind) for name, (_, kind) in bad.items()}


def test_row_2_damaged_tars_lose_only_what_they_lost_and_say_where(model, ray_here, tmp_path):
    whole = write_tars(tmp_path / "whole", GOOD, per_shard=8)
    source = tmp_path / "in"
    source.mkdir()
    with tarfile.open(whole / "shard-00000.tar") as tar:
        offsets = [(member.offset, member.offset_data, member.size) for member in tar]
    content = (whole / "shard-00000.tar").read_bytes()
    expected = {}
    for i in (1, 4, 7):
        header, body, size = offsets[i]
        damaged = bytearray(content)
        damaged[header + 10] ^= 0xFF
        (source / f"header-{i}.tar").write_bytes(damaged)
        expected[f"header-{i}.tar"] = (i, "corrupt_header", header)
        (source / f"body-{i}.tar").write_bytes(content[: body + size // 2])
        expected[f"body-{i}.tar"] = (i, "truncated", None)
        (source / f"edge-{i}.tar").write_bytes(content[:header])
        expected[f"edge-{i}.tar"] = (i, "truncated", header)
    run_score(model, source, tmp_path / "out", limits={"max_error_share": 0.9})
    rows = open_tables(str(tmp_path / "out")).connection.execute("select uri, count(*) from scores group by uri").fetchall()
    assert {uri.rsplit("/", 1)[1]: count for uri, count in rows} == {name: count for name, (count, *_) in expected.items()}
    found = {uri.rsplit("/", 1)[1]: (error, offset) for uri, _, _, error, _, offset in errors(tmp_path / "out")}
    assert found.keys() == expected.keys()
    for name, (_, error, offset) in expected.items():
        assert found[name][0] == error, name
        assert found[name][1] is not None and (offset is None or found[name][1] == offset), name
    ((planned, good, bad),) = (
        open_tables(str(tmp_path / "out")).connection.execute("select planned, scored, quarantined from runs").fetchall()
    )
    assert planned == good + bad and bad == len(expected)


def test_row_3_what_is_gone_or_changed_since_the_plan_is_not_scored(model, ray_here, tmp_path):
    source = write_files(tmp_path / "in", GOOD)
    job = settings(model, source, tmp_path / "out", limits={"max_error_share": 0.9})
    number = seal_slice(prepare(job))
    names = sorted(GOOD)
    for name in names[:3]:
        (source / name).unlink()
    for i, name in enumerate(names[3:6]):
        (source / name).write_bytes(encoded(500 + i))
    run_score(model, source, tmp_path / "out", limits={"max_error_share": 0.9})
    # The command finishes the open slice first. Then it plans the changed objects, whose rows replace the errors.
    assert Counter(error for _, _, _, error, _, _ in errors(tmp_path / "out")) == {"gone": 3}
    assert scored(tmp_path / "out") == (len(GOOD) - 3, len(GOOD) - 3)
    tables = open_tables(str(tmp_path / "out")).connection
    per_slice = tables.execute("select slice, scored, quarantined from runs order by slice").fetchall()
    assert per_slice == [(number, len(GOOD) - 6, 6), (number + 1, 3, 0)]


def test_row_6_too_many_errors_publish_nothing_until_accepted(model, ray_here, tmp_path, capsys):
    bad = {f"bad/{i}.png": b"x" for i in range(6)}
    write_files(tmp_path / "in", GOOD | bad)
    for _ in range(2):
        result = score(settings(model, tmp_path / "in", tmp_path / "out", limits={"min_errors": 6}))
        ((number, why),) = result.held.items()
        assert "Nothing of the slice is published" in why and not result.published
        with pytest.raises(ErrorShareError, match="are not published"):
            report(result)
    assert open_table(str(tmp_path / "out"), "scores") is None
    said = capsys.readouterr().out
    look, accept = (line.partition(": ")[2] for line in said.strip().splitlines()[-2:])
    assert look.startswith("flowscore query ") and "--unpublished" in look
    assert "bad/0.png" in command(*shlex.split(look)[1:], "--csv").stdout
    assert accept.startswith("flowscore finalize ") and f"--slice {number} " in accept
    command(*shlex.split(accept)[1:])
    assert scored(tmp_path / "out") == (len(GOOD), len(GOOD))
    assert len(errors(tmp_path / "out")) == len(bad)


@pytest.fixture(scope="module")
def usage(model, tmp_path_factory):
    """Name of a mistake -> (arguments of `flowscore score`, the text that the one line must contain)."""
    folder = tmp_path_factory.mktemp("usage")
    source = write_files(folder / "in", {"a.png": encoded(0)})
    damaged = shutil.copytree(model, folder / "damaged")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    (folder / "unknown.yaml").write_text("sauce: {}\n")
    (folder / "nested.yaml").write_text("limits: {max_eror_share: 0.1}\n")
    (folder / "value.yaml").write_text("limits: {max_error_share: 7}\n")
    good = {"--model": model, "--input": source, "--output": folder / "out"}
    return {
        "unknown_key": (good | {"--config": folder / "unknown.yaml"}, "sauce"),
        "unknown_nested_key": (good | {"--config": folder / "nested.yaml"}, "max_error_share"),
        "bad_value": (good | {"--config": folder / "value.yaml"}, "max_error_share"),
        "missing_artifact": (good | {"--model": folder / "nowhere"}, "nowhere"),
        "no_artifact": (good | {"--model": source}, "digests.json"),
        "digest": (good | {"--model": damaged}, "model.safetensors"),
        "bad_scheme": (good | {"--input": "ftp://host/x"}, "ftp://host/x"),
        "missing_bucket": (good | {"--input": "s3://no-such-bucket-here/x"}, "no-such-bucket-here"),
        "output_in_input": (good | {"--output": source / "results"}, "--output"),
        "bad_pattern": (good | {"--key-pattern": "{line}{lot}"}, "key_pattern"),
    }


@pytest.mark.parametrize(
    "mistake",
    [
        *("unknown_key", "unknown_nested_key", "bad_value", "missing_artifact", "no_artifact"),
        *("digest", "bad_scheme", "missing_bucket", "output_in_input", "bad_pattern"),
    ],
)
def test_row_8_mistakes_end_in_one_line_before_ray_starts(mistake, usage, s3_bucket):
    arguments, named = usage[mistake]
    done = command("score", *(part for pair in arguments.items() for part in pair), check=False)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and named in lines[0], done.stderr


def test_row_8_a_detector_that_does_not_exist(tmp_path):
    write_files(tmp_path / "good", GOOD)
    done = command(*("train", "--detector", "csflo", "--input", tmp_path / "good", "--model-out", tmp_path / "m"), check=False)
    assert done.returncode == 2 and "csflow" in done.stderr, done.stderr
