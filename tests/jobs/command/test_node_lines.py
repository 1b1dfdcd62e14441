"""The lines come out of Ray's own functions, so that another form of Ray's is noticed."""

import pytest
from ray._private import worker
from ray._private.ray_logging import LogDeduplicator

from jobs.command.node_lines import readable


def printed(capsys, **told):
    batch = {"pid": "4711", "ip": "10.0.0.7", "localhost": "10.0.0.1", "actor_name": None, "task_name": None, **told}
    worker.print_worker_logs(batch, None)
    return capsys.readouterr().out.rstrip("\n")


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({"actor_name": "MapWorker(MapBatches(ScoreStage))"}, "scorer 4711 on node 10.0.0.7: no room (so it is)"),
        ({"actor_name": "LoneWorker"}, "scorer 4711 on node 10.0.0.7: no room (so it is)"),
        ({"task_name": "MapBatches(read_and_decode)"}, "reader 4711 on node 10.0.0.7: no room (so it is)"),
        ({"task_name": "MapBatches(commit)"}, "committer 4711 on node 10.0.0.7: no room (so it is)"),
        ({"task_name": "write_part"}, "worker 4711 on node 10.0.0.7: no room (so it is)"),
        ({"ip": "10.0.0.1"}, "worker 4711: no room (so it is)"),
        ({"pid": "raylet"}, "Ray on node 10.0.0.7: no room (so it is)"),
    ],
)
@pytest.mark.parametrize("colour", ["0", "1"])
def test_a_line_of_a_node_says_who_in_words(capsys, monkeypatch, told, line, colour):
    monkeypatch.setenv("RAY_COLOR_PREFIX", colour)
    assert readable(printed(capsys, lines=["no room (so it is)"], **told)) == line


def test_what_ray_leaves_out_is_counted(capsys):
    out = LogDeduplicator(5, None, None, _timesource=lambda: 0.0)
    for pid in ("1", "2", "3"):
        batches = out.deduplicate({"pid": pid, "ip": "10.0.0.7", "localhost": "", "lines": [f"unit {pid} is slow"]})
        shown = [line for batch in batches for line in batch["lines"]]
        assert shown == (["unit 1 is slow"] if pid == "1" else [])
    (batch,) = out.flush()
    assert readable(printed(capsys, **batch)) == "worker 3 on node 10.0.0.7: unit 3 is slow (and 2 times in other processes)"


def test_the_autoscaler_is_named(capsys, monkeypatch):
    monkeypatch.setattr(worker, "filter_autoscaler_events", lambda lines: lines)
    assert readable(printed(capsys, pid="autoscaler", lines=["Resized to 40 CPUs."])) == "autoscaler: Resized to 40 CPUs."


@pytest.mark.parametrize("line", ["", "(no node) said it", "tiles slice 3: planned, 24 images", "a (pid=4711) b"])
def test_other_lines_stay(line):
    assert readable(line) == line
