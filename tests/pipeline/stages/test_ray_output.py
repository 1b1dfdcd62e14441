import contextlib
import functools
import os
import re
import subprocess
import sys
import threading
import time

from ray._private import ray_logging, worker

from pipeline.stages.ray_output import KNOWN, LAST_WORDS, WithoutKnown, end_output

NOISE = (
    b"[2026-06-03 01:30:07,480 E 26607 26607] core_worker.cc:2465: Actor with class name: 'MapWorker(...)' "
    + KNOWN
    + b" See.\n"
)


@contextlib.contextmanager
def standard_error(descriptor):
    """Standard error is this one, below Python."""
    kept = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def file_of_errors(folder):
    """A file that is standard error. No fixture: pytest captures anew for the test itself."""
    path = folder / "err"
    with path.open("wb") as file, standard_error(file.fileno()):
        yield path


def test_the_known_line_is_left_out_and_every_other_passes(tmp_path):
    fault = b"[2026-06-03 01:30:07,480 E 26607 26607] core_worker.cc:2465: The node with id ab is dead\n"
    with file_of_errors(tmp_path) as err:
        with WithoutKnown(3):
            for line in (b"before\n", NOISE, fault, NOISE, b"no end"):
                os.write(2, line)
        os.write(2, b"after\n")
    assert err.read_bytes() == b"before\n" + fault + b"no endafter\n"


def test_after_the_last_one_it_is_out_of_the_way(tmp_path):
    """A process that dies later writes its last words straight to where they belong."""
    with file_of_errors(tmp_path) as err, WithoutKnown(1) as known:
        os.write(2, NOISE)
        known._thread.join(30)
        assert not known._thread.is_alive()
        os.write(2, b"straight\n")
        assert err.read_bytes() == b"straight\n"


def test_it_is_out_of_the_way_once_the_scorers_work_though_the_line_never_came(tmp_path):
    with file_of_errors(tmp_path) as err, WithoutKnown(2) as known:
        os.write(2, NOISE + b"said\n")
        known.give_back()
        known._thread.join(30)
        os.write(2, b"straight\n")
        assert err.read_bytes() == b"said\nstraight\n"


def test_a_bar_is_seen_at_once(tmp_path):
    """It begins with a carriage return and never ends its line."""
    with file_of_errors(tmp_path) as err, WithoutKnown(1):
        for bar in (b"\r[#...] 1/4", b"\r[##..] 2/4"):
            os.write(2, bar)
            until = time.monotonic() + 30
            while not err.read_bytes().endswith(bar) and time.monotonic() < until:
                time.sleep(0.01)
            assert err.read_bytes().endswith(bar)


def test_all_of_it_reaches_a_terminal_that_takes_no_more_for_a_while():
    """Another program has made it non-blocking, so that a write fails, or takes a part only."""
    text, found = b"".join(b"%07d\n" % number for number in range(50_000)), []
    read, write = os.pipe()
    os.set_blocking(write, False)

    def take():
        with os.fdopen(read, "rb") as lines:
            found.append(lines.read())

    with standard_error(write):
        os.close(write)
        with WithoutKnown(1):
            before = os.write(2, text[:100_000])  # more than a pipe holds, and nobody reads it yet
            reader = threading.Thread(target=take)
            reader.start()
            os.write(2, text[before:])
    reader.join(30)
    assert found == [text]


def test_where_it_cannot_write_standard_error_is_given_back(tmp_path):
    with file_of_errors(tmp_path) as err, err.open("rb") as nobody_writes, WithoutKnown(1) as known:
        os.dup2(nobody_writes.fileno(), known._out)
        os.write(2, b"lost\n")
        known._thread.join(30)
        os.write(2, b"straight\n")
    assert err.read_bytes() == b"straight\n"


def test_ray_keeps_the_last_words_of_every_scorer():
    code = (
        "from pipeline.stages.ray_output import set_output\nset_output()\n"
        "from ray._private.ray_logging import stderr_deduplicator as out\n"
        "said = 'GPU 0 of node 10.0.0.{} (cuda): out of memory; this process ends'\n"
        "batches = [out.deduplicate({'pid': n, 'ip': '', 'lines': [said.format(n)]}) for n in range(4)]\n"
        "print(sum(len(batch['lines']) for found in batches for batch in found))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "4\n"
    assert re.search(LAST_WORDS, "too little memory; this process ends")


def test_nothing_of_ray_comes_after_the_end(capsys):
    dispatcher, kept = ray_logging.global_worker_stdstream_dispatcher, ray_logging.stderr_deduplicator

    def say(pid):
        dispatcher.emit({"pid": pid, "ip": "10.0.0.7", "localhost": "", "is_err": True, "lines": [f"unit {pid} is slow"]})

    dispatcher.add_handler("ray_print_logs", functools.partial(worker.print_to_stdstream, ignore_prefix=False))
    kept.flush()
    for pid in (1, 2):
        say(pid)
    assert "unit 2 is slow" not in capsys.readouterr().err, "Ray keeps it back"
    end_output()
    assert "unit 2 is slow" in capsys.readouterr().err
    say(3)
    assert capsys.readouterr().err == ""
