"""What the decoder's process cannot do. Each deed is done in a process without the sandbox too, where it succeeds."""

import io
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import hostile_decoder
import numpy as np
import psutil
import pytest
from dangerous_decoders import table
from hostile_decoder import DEEDS
from PIL import Image

from pipeline.decode import handle, landlock, sandbox
from pipeline.decode import process as decode_process
from pipeline.decode import sealed as sealed_process
from pipeline.decode.child import GRACE_S
from pipeline.decode.config import DecodeConfig
from pipeline.decode.process import decode_in_child
from pipeline.decode.unit import decode_unit

ROOT = Path(__file__).parents[3]
CONFIG = DecodeConfig(height=24, width=32, timezone="Asia/Kathmandu")
TIMEOUT_S = 30.0
DECODER = "hostile_decoder_of_test_sandbox:decode"
BY_LANDLOCK = {"read a file", "read a file of the user", "list a folder", "read the variables of the parent"}
BY_EITHER = {"write a file", "append to a file", "make a folder", "rename a file"}
SECRET = "AWS_SECRET_ACCESS_KEY"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes rights away from a process")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The hostile decoder and its victims, files that the user may read and write; in sys.path, as a user's folder may be."""
    found = tmp_path_factory.mktemp("user")
    shutil.copy(hostile_decoder.__file__, found / f"{DECODER.partition(':')[0]}.py")
    for name in ("secret", "moved"):
        (found / name).write_text("key")
    return found


@pytest.fixture(scope="module")
def ask(folder):
    """Have the hostile decoder do things in the sandbox; gives what it says of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv(SECRET, "hunter2")
        patch.setenv("RAY_AUTH_TOKEN", "hunter3")

        def asked(*deeds):
            rows = decode_in_child(table([deed.encode() for deed in deeds]), CONFIG, TIMEOUT_S, DECODER).table
            assert rows["error"].to_pylist() == ["corrupt"] * len(deeds), rows["message"].to_pylist()
            return [json.loads(message) for message in rows["message"].to_pylist()]

        yield asked
    decode_process._decoders.pop(DECODER).end()


@pytest.fixture(scope="module")
def sealed(ask):
    return dict(zip(DEEDS, ask(*DEEDS), strict=True))


@pytest.fixture(scope="module")
def unsealed(sealed, folder):
    """The same deeds in a process like the decoder's, which has not given up anything."""
    reader, writer = os.pipe()
    given = (reader, writer, os.memfd_create("memory"))
    command = [sys.executable, folder / f"{DECODER.partition(':')[0]}.py", "[]", *map(str, given), *DEEDS]
    done = subprocess.run(command, pass_fds=given, stdout=subprocess.PIPE, check=True, timeout=60)
    for descriptor in given:
        os.close(descriptor)
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def missing():
    """What this kernel cannot take away, as the sandbox says it."""
    program = "import json; from pipeline.decode.sandbox import seal; print(json.dumps(seal(1 << 32, 'json:loads').missing))"
    return json.loads(subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.parametrize("deed", DEEDS)
def test_a_picture_cannot(deed, sealed, unsealed, missing, record_property):
    assert unsealed[deed] == "done", "the deed itself is at fault"
    lacking = {word for word in ("files", "calls") if any(word in what for what in missing)}
    by = {"files"} if deed in BY_LANDLOCK else {"calls"} | ({"files"} if deed in BY_EITHER else set())
    record_property("stopped by", sorted(by - lacking))
    if by <= lacking:
        pytest.xfail(f"this kernel lacks the protection: {missing}")
    assert sealed[deed].split(":")[0] in ("PermissionError", "OSError", "ProcessLookupError"), sealed[deed]


def test_it_has_no_variables_but_its_own(ask):
    (found,) = ask("variables")
    assert SECRET in os.environ and found.keys() - sealed_process.ENVIRONMENT.keys() - set(sealed_process.INHERITED) <= {
        "LC_CTYPE"
    }
    assert "hunter" not in json.dumps(found)
    pid = decode_process._decoders[DECODER].pid
    assert b"hunter" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_its_limits_are_hard(ask):
    hard = {
        name: resource.prlimit(pid(ask), getattr(resource, f"RLIMIT_{name}"))[1] for name in ("DATA", "NOFILE", "FSIZE", "CORE")
    }
    most = {"DATA": CONFIG.max_decode_bytes + sandbox.IMPORT_BYTES, "NOFILE": 64, "FSIZE": sandbox.LOG_BYTES, "CORE": 0}
    assert all(hard[name] <= most[name] for name in most)
    assert ask("raise limits")[0].keys() == most.keys(), "not even root raises them"
    assert ask("too much memory") == ["MemoryError"]


def test_its_processor_time_is_limited_for_each_image(ask):
    for _ in range(2):
        assert TIMEOUT_S + GRACE_S - 2 <= ask("processor time")[0] <= TIMEOUT_S + GRACE_S + 1
    rows = decode_in_child(table([b"spin"]), CONFIG, TIMEOUT_S, DECODER).table
    assert rows["error"].to_pylist() == ["decoder_crashed"] and "SIGXCPU" in rows["message"][0].as_py()


def test_what_it_says_of_where_it_is_is_not_believed(ask):
    """The shared memory begins with the index of the image that it is at, by which the parent's clock runs."""
    rows = decode_in_child(table([b"variables", b"lie", b"variables"]), CONFIG, TIMEOUT_S, DECODER).table
    assert rows["error"].to_pylist() == ["corrupt", "decoder_crashed", "corrupt"]
    rows = decode_in_child(table([b"restless"]), CONFIG, 1.0, DECODER).table
    assert rows["error"].to_pylist() == ["decoder_timeout"]


def test_its_standard_error_does_not_fill_the_disk(ask):
    for _ in range(2):
        assert ask("chatter") == [sandbox.LOG_BYTES]


def test_it_has_given_up_privileges_folder_and_files(ask, folder):
    with open(folder / "secret") as secret:
        os.set_inheritable(secret.fileno(), True)
        decode_process._decoders[DECODER].end()
        child = Path("/proc", str(pid(ask)))
    status = dict(line.split(":\t", 1) for line in (child / "status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1" and int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert (status["Umask"], os.readlink(child / "cwd")) == ("0077", "/")
    targets = sorted(os.readlink(link).split(":")[0].split(" ")[0] for link in (child / "fd").iterdir())
    own = [name for name in targets if name not in ("pipe", "/dev/null", "/memfd") and not name.endswith("/status")]
    assert len(targets) == 7 and targets.count("pipe") == 2 and len(own) == 1 and Path(own[0]).parent.samefile("/tmp"), targets


def pid(ask):
    ask("variables")
    return decode_process._decoders[DECODER].pid


def pictures():
    """Small and large, grey and colour, with EXIF: what is imported and read only when a picture needs it."""
    random = np.random.default_rng(0)
    forms = [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("TIFF", {})]
    forms += [("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    for form, options in forms:
        for mode, side in (("L", 50), ("RGB", 50), ("RGB", 900)):
            shape = (side, side, 3) if mode == "RGB" else (side, side)
            exif = Image.Exif()
            exif[0x0110] = "camera"
            exif.get_ifd(0x8769)[0x9003] = "2026:07:01 12:00:00"
            options = options if form == "BMP" else options | {"exif": exif}
            sink = io.BytesIO()
            Image.fromarray(random.integers(0, 256, shape, np.uint8), mode).save(sink, form, **options)
            yield sink.getvalue()


def test_pictures_are_what_they_are_without_it():
    """In a fresh child: torch, the time zone and parts of Pillow come after it has given up its rights."""
    if found := decode_process._decoders.pop(decode_process.DECODE, None):
        found.end()
    contents = table(list(pictures()))
    found, wanted = decode_in_child(contents, CONFIG, 60), decode_unit(contents, CONFIG)
    assert found.table.equals(wanted.table) and (found.pixels == wanted.pixels).all()
    assert set(wanted.table["error"].to_pylist()) == {None} and wanted.table["captured_at"][0].is_valid
    mapped = psutil.Process(decode_process._decoders[decode_process.DECODE].pid).memory_maps()
    assert any("libtorch" in file.path for file in mapped)


@pytest.fixture
def answering(monkeypatch, caplog):
    """Two decoders one after the other whose `seal` only answers, with this expression; gives what was logged."""

    def answered(expression):
        seal = f"lambda most, decoder: sandbox.Sealed([{expression}], None)"
        patch = f"import os; from pipeline.decode import sandbox; sandbox.seal = {seal}; "
        marker = "from pipeline.decode.sandbox"
        monkeypatch.setattr(sealed_process, "START", sealed_process.START.replace(marker, patch + marker))
        monkeypatch.setattr(sealed_process, "_told", set())
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                handle.Decoder(decode_process.DECODE, 1 << 32).end()
        return [record.getMessage() for record in caplog.records]

    return answered


def test_what_a_kernel_cannot_take_away_is_said_once(answering):
    said = "the decoder's process is not limited in system calls (no kernel has them): a hostile image might use that"
    assert answering("'system calls (no kernel has them)'") == [said]


def test_it_has_one_thread_when_it_is_sealed(answering):
    """Landlock is of the thread that asks for it and of those that it starts later."""
    (said,) = answering("'threads: %d' % len(os.listdir('/proc/self/task'))")
    assert "threads: 1:" in said


OLD = """
import json
from pipeline.decode import landlock, sandbox, seccomp
def refuse():
    raise OSError(38, "no such call")
landlock.version, seccomp.restrict = lambda: 0, refuse
print(json.dumps(sandbox.seal(1 << 32, "json:loads").missing))
"""


def test_an_old_kernel_takes_away_what_it_can():
    done = subprocess.run([sys.executable, "-c", OLD], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout) == ["which files it reads (the kernel has no Landlock)", "system calls (no such call)"]


def test_readable_is_no_users_folder(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    found = sandbox.readable(DECODER)
    assert Path(np.__file__).resolve().parents[1] in found and ROOT / "pipeline" in found
    users = (folder, ROOT, Path.home(), Path("/"), Path("/etc"), Path("/proc"))
    assert not any(user.resolve() == path or path in user.resolve().parents for user in users for path in found)


def test_landlock_leaves_what_was_named(tmp_path):
    if not landlock.version():
        pytest.xfail("this kernel has no Landlock")
    for name in ("named", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    program = f"""
import ctypes, os
from pathlib import Path
from pipeline.decode import landlock
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
folder = Path({str(tmp_path)!r})
landlock.restrict([folder / "named"])
print((folder / "named/file").read_text(), os.listdir(folder / "named"))
file = folder / "named/file"
for deed in (lambda: (folder / "other/file").read_text(), lambda: file.write_text(""), lambda: os.remove(file)):
    try:
        deed()
    except PermissionError as error:
        print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout.splitlines() == ["named ['file']", *["Permission denied"] * 3]
