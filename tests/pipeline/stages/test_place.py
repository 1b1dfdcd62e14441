import os
from types import SimpleNamespace

import pytest
import ray
from own_time import set_time

from pipeline.scoring.faults import DeviceFault, WrongDevice
from pipeline.stages import place as place_of
from pipeline.stages.device_counts import Go, GpuPlace, Told
from pipeline.stages.faults import SetAside
from pipeline.stages.place import EXIT_STATUS, Place
from schemas.envelope import UnitLabel

LABEL = UnitLabel(3, 1, "u", "none", None, 0, 0)


class Ended(BaseException):
    """In place of the process's end."""


@pytest.fixture
def ends(monkeypatch):
    """The exit statuses of this process."""
    found = []

    def leave(status):
        found.append(status)
        raise Ended

    monkeypatch.setattr(os, "_exit", leave)
    return found


def test_a_fault_ends_the_process_after_one_line(ends, capsys):
    place = Place()
    place.begin()
    place.ready()
    with pytest.raises(Ended), place.unit(LABEL):
        raise DeviceFault("cuda failed at a batch: an illegal memory access")
    assert ends == [EXIT_STATUS]
    assert capsys.readouterr().err == "cuda failed at a batch: an illegal memory access; this process ends\n"


def test_two_units_that_meet_a_fault_say_it_once(ends, capsys, monkeypatch):
    monkeypatch.setattr(place_of, "LAST_WORDS_S", 0)
    place = Place()
    for _ in range(2):
        with pytest.raises(Ended), place.unit(LABEL):
            raise DeviceFault("cuda failed")
    assert capsys.readouterr().err.count("this process ends") == 1


def test_other_errors_pass(ends):
    place = Place()
    with pytest.raises(KeyError), place.unit(LABEL):
        raise KeyError("ours")
    with place.unit(LABEL):
        pass
    assert ends == []


@pytest.mark.parametrize("again", [False, True])
def test_a_device_that_is_gone_ends_only_a_process_that_follows_one_that_had_it(ends, again):
    place = Place()
    place._told = Told(Go.WORK, again=again)
    with pytest.raises(Ended if again else WrongDevice), place.device():
        raise WrongDevice("torch finds no GPU")
    assert ends == [EXIT_STATUS] * again


def test_a_unit_that_is_set_aside_is_not_tried(ends):
    place = Place()
    place._told = Told(Go.WORK, aside=((3, 1),))
    with pytest.raises(SetAside, match="unit 3, part 1"), place.unit(LABEL):
        pytest.fail("tried")
    with place.unit(LABEL._replace(part=2)):
        pass


def test_it_yields_its_place(ends, monkeypatch):
    place = Place()
    monkeypatch.setattr(place, "_ask", lambda: Told(Go.YIELD))
    with pytest.raises(Ended):
        place.begin()
    assert ends == [EXIT_STATUS]


def test_it_waits_until_it_is_told_to_go_on(monkeypatch):
    answers = [Told(Go.WAIT), Told(Go.WAIT), Told(Go.REFUSE, message="no device is left")]
    slept = []
    set_time(monkeypatch, place_of, sleep=slept.append)
    place = Place()
    monkeypatch.setattr(place, "_ask", lambda: answers.pop(0))
    place.begin()
    assert (len(slept), place.refuses) == (2, "no device is left")


class Method:
    """Of an actor that counts; its answers are None."""

    def __init__(self, calls, name, error):
        self.calls, self.name, self.error = calls, name, error

    def remote(self, *arguments):
        if self.error is not None:
            raise self.error
        self.calls.append((self.name, *arguments))


class Counts:
    def __init__(self, error=None):
        self.calls, self.error = [], error

    def __getattr__(self, name):
        return Method(self.calls, name, self.error)


GPU = GpuPlace("n1", "10.0.0.1", ("0",))


def counted(counts, monkeypatch, name="a"):
    monkeypatch.setattr(ray, "get", lambda answer, timeout=None: answer)
    place = Place(counts, name=name)
    place._gpu = GPU
    return place


def test_it_says_that_units_are_finished_but_not_each_of_them(monkeypatch):
    counts = Counts()
    place = counted(counts, monkeypatch)
    now = 100.0
    set_time(monkeypatch, place_of, monotonic=lambda: now)
    for _ in range(3):
        with place.unit(LABEL):
            pass
    now += place_of.TELL_EVERY_S
    with place.unit(LABEL):
        pass
    assert counts.calls == [("finished", GPU)] * 2


@pytest.mark.parametrize("units", [0, 1, 2])
def test_its_last_words_have_what_it_has_not_said(ends, monkeypatch, units):
    counts = Counts()
    place = counted(counts, monkeypatch)
    for _ in range(units):
        with place.unit(LABEL):
            pass
    with pytest.raises(Ended):
        place.end("of an ECC error")
    assert counts.calls[-1] == ("failed", "a", GPU, "of an ECC error", units == 2, ())


def test_a_rehearsal_is_no_finished_unit(ends, monkeypatch):
    counts = Counts()
    place = counted(counts, monkeypatch)
    with place.rehearsal(), place.unit(LABEL):
        pass
    assert counts.calls == []
    with place.unit(LABEL):
        pass
    assert counts.calls == [("finished", GPU)]


def test_it_ends_though_it_cannot_say_so(ends, capsys, monkeypatch):
    place = counted(Counts(RuntimeError("Ray is gone")), monkeypatch)
    with pytest.raises(Ended):
        place.end("of an ECC error")
    assert ends == [EXIT_STATUS]
    assert "GPU 0 of node 10.0.0.1 (n1): of an ECC error; this process ends" in capsys.readouterr().err


@pytest.mark.parametrize("kill", ["slow", "fails"])
def test_it_ends_for_good_however_slow_the_kill_is(ends, monkeypatch, kill):
    def killed(actor):
        if kill == "fails":
            raise RuntimeError("Ray is gone")

    set_time(monkeypatch, place_of, sleep=lambda seconds: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(current_actor="me"))
    monkeypatch.setattr(ray, "kill", killed)
    place = Place()
    monkeypatch.setattr(place, "_ask", lambda: Told(Go.END))
    with pytest.raises(Ended):
        place.begin()
    assert ends == [EXIT_STATUS]
