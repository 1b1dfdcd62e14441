import functools
import os
import re
import subprocess
import sys

from ray._private import ray_logging, worker

from pipeline.stages.ray_output import KNOWN, LAST_WORDS, WithoutKnown, end_output

NOISE = (
    b"[2026-06-03 01:30:07,480 E 26607 26607] core_worker.cc:2465: Actor with class name: 'MapWorker(...)' "
    + KNOWN
    + b" See.\n"
)


def written(tmp_path, *lines, times):
    """What reaches standard error of the lines that are written in the block."""
    kept = os.dup(2)
    with (tmp_path / "err").open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            with WithoutKnown(times):
                for line in lines:
                    os.write(2, line)
            os.write(2, b"after\n")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    return (tmp_path / "err").read_bytes()


def test_the_known_line_is_left_out_and_every_other_passes(tmp_path):
    fault = b"[2026-06-03 01:30:07,480 E 26607 26607] core_worker.cc:2465: The node with id ab is dead\n"
    assert written(tmp_path, b"before\n", NOISE, fault, NOISE, b"no end", times=3) == b"before\n" + fault + b"no endafter\n"


def test_after_the_last_one_it_is_out_of_the_way(tmp_path):
    """A process that dies later writes its last words straight to where they belong."""
    kept, folder = os.dup(2), tmp_path / "err"
    with folder.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            with WithoutKnown(1) as known:
                os.write(2, NOISE)
                known._thread.join(30)
                assert not known._thread.is_alive()
                os.write(2, b"straight\n")
                assert folder.read_bytes() == b"straight\n"
        finally:
            os.dup2(kept, 2)
            os.close(kept)


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
