import pytest

from pipeline.stages.device_counts import BACK_S, MOST_FAULTS, NEW_DEVICE_S, DeviceCounts, Go, GpuPlace, Stream

ONE, TWO = GpuPlace("n1", "10.0.0.1", ("0",)), GpuPlace("n2", "10.0.0.2", ("0",))


class Run:
    """Scorers of one stream; a process of each has a number."""

    def __init__(self, scorers=2):
        self.alive, self.time, self.ended = {"n1", "n2"}, 0.0, []
        self.counts = DeviceCounts(lambda: self.alive, self.ended.append, lambda: self.time)
        self.stream = Stream(1, scorers)
        self.counts.begin(self.stream)
        self.processes = {}

    def starts(self, name, device):
        self.processes[name] = self.processes.get(name, 0) + 1
        return self.asks(name, device)

    def asks(self, name, device):
        return self.counts.ask(self.stream, name, f"{name}{self.processes[name]}", device, f"actor {name}")

    def works(self, name, device):
        told = self.starts(name, device)
        self.counts.ready(name)
        return told

    def fails(self, name, device, finished=False, units=()):
        self.counts.failed(name, device, "of an ECC error", finished, units)


@pytest.fixture
def run():
    return Run()


def test_three_faults_in_a_row_leave_a_device_out_and_its_scorer_ends(run):
    run.works("b", TWO)
    for _ in range(MOST_FAULTS):
        assert run.works("a", ONE).go is Go.WORK
        run.fails("a", ONE)
    (line,) = run.counts.news()
    assert line.startswith("GPU 0 of node 10.0.0.1 (n1) is left out: 3 scorers in a row") and "ECC error" in line
    assert run.counts.news() == []
    assert run.starts("a", ONE).go is Go.END, "it owns units"
    assert run.works("b", TWO).go is Go.WORK


def test_a_finished_unit_in_between_starts_the_row_again(run):
    run.works("b", TWO)
    for _ in range(10):
        assert run.works("a", ONE).go is Go.WORK
        run.fails("a", ONE)
        assert run.works("a", ONE).go is Go.WORK
        run.fails("a", ONE, finished=True)
    assert run.counts.news() == []


def test_the_row_is_the_devices_whichever_scorer_is_there(run):
    for name in ("a", "b", "c"):
        run.works(name, ONE)
        run.fails(name, ONE)
    assert len(run.counts.news()) == 1


def test_an_end_without_a_word_counts_while_it_loads_and_not_later(run):
    run.works("b", TWO)
    for _ in range(10):
        assert run.works("a", ONE).go is Go.WORK, "a unit may have ended it"
    for _ in range(MOST_FAULTS):
        assert run.starts("a", ONE).go is Go.WORK
    assert run.starts("a", ONE).go is Go.END
    assert "while the model was loaded" in run.counts.news()[0]


def test_a_fault_that_is_reported_while_it_loads_counts_once(run):
    run.works("b", TWO)
    for _ in range(MOST_FAULTS - 1):
        run.starts("a", ONE)
        run.fails("a", ONE)
    assert run.starts("a", ONE).go is Go.WORK


def test_units_of_the_second_fault_in_a_row_are_set_aside(run):
    run.works("a", ONE)
    run.fails("a", ONE, units=((4, 0), (5, 0)))
    told = run.works("a", ONE)
    assert told.aside == () and told.again
    run.fails("a", ONE, units=((5, 0), (6, 1)))
    assert run.works("a", ONE).aside == ((5, 0), (6, 1))
    run.fails("a", ONE, finished=True, units=((7, 0),))
    assert run.works("a", ONE).aside == ()


def left_out(run, name, device):
    for _ in range(MOST_FAULTS):
        run.works(name, device)
        run.fails(name, device)


def test_a_new_scorer_waits_on_a_device_that_is_left_out(run):
    run.works("b", TWO)
    left_out(run, "a", ONE)
    assert run.starts("a", ONE).go is Go.END
    assert run.starts("c", ONE).go is Go.WAIT, "an end would let the next have the device"
    run.time += 10 * NEW_DEVICE_S
    assert run.asks("c", ONE).go is Go.WAIT, "another works"


def test_a_scorer_without_units_yields_its_place_to_one_that_comes_back():
    run = Run(scorers=3)
    run.works("b", TWO)
    run.works("a", ONE)
    run.fails("a", ONE)
    assert [run.starts("c", ONE).go for _ in range(5)] == [Go.YIELD] * 5, "Ray gave it the place of a, which owns units"
    assert run.works("a", ONE).go is Go.WORK
    assert run.works("c", TWO).go is Go.WORK
    assert run.counts.news() == [], "its own ends are nobody's fault"


def test_a_place_is_not_kept_for_ever():
    run = Run(scorers=3)
    run.works("a", ONE)
    run.fails("a", ONE)
    assert run.starts("c", ONE).go is Go.YIELD
    run.time += BACK_S
    assert run.starts("c", ONE).go is Go.WORK


def test_a_lone_worker_follows_another_at_once():
    run = Run(scorers=0)
    run.works("alone-0", ONE)
    run.fails("alone-0", ONE, finished=True)
    assert run.starts("alone-1", ONE).go is Go.WORK


def test_the_last_one_refuses_and_names_all(run):
    run.works("a", ONE)
    run.works("b", TWO)
    left_out(run, "a", ONE)
    assert run.starts("a", ONE).go is Go.END and run.counts.gone() is None
    left_out(run, "b", TWO)
    told = run.starts("b", TWO)
    assert told.go is Go.REFUSE and told.message == run.counts.gone()
    for named in ("GPU 0 of node 10.0.0.1", "GPU 0 of node 10.0.0.2", "repeat the command"):
        assert named in told.message


def test_a_device_that_may_still_come_is_waited_for_but_not_for_ever():
    run = Run(scorers=2)
    left_out(run, "a", ONE)
    assert run.starts("a", ONE).go is Go.WAIT
    run.time += NEW_DEVICE_S / 2
    assert run.asks("a", ONE).go is Go.WAIT
    run.works("b", TWO)
    assert run.asks("a", ONE).go is Go.END, "b has a place now, and scores the units of a"
    late = Run(scorers=2)
    left_out(late, "a", ONE)
    assert late.starts("a", ONE).go is Go.WAIT
    late.time += NEW_DEVICE_S
    assert late.asks("a", ONE).go is Go.REFUSE


def test_a_scorer_whose_node_is_gone_does_not_work(run):
    run.works("b", TWO)
    left_out(run, "a", ONE)
    run.alive = {"n1"}
    assert run.starts("a", ONE).go is Go.WAIT, "b has no place, and may get one"
    run.time += NEW_DEVICE_S
    assert run.asks("a", ONE).go is Go.REFUSE


def test_the_next_stream_knows_the_devices_and_not_the_scorers(run):
    left_out(run, "a", ONE)
    before, run.stream = run.stream, Stream(2, 2)
    run.counts.begin(run.stream)
    assert run.counts.ask(before, "a", "a9", TWO, None).go is Go.END
    run.works("b", TWO)
    assert run.starts("c", ONE).go is Go.WAIT


def test_whom_to_blame_for_the_end_of_a_lone_worker():
    run = Run(scorers=0)
    run.works("reported", ONE)
    run.fails("reported", ONE)
    run.starts("loading", ONE)
    run.works("silent", ONE)
    assert [run.counts.blamed(name) for name in ("reported", "loading", "silent", "never came")] == [True, True, False, False]
    assert run.starts("next", ONE).go is Go.WORK
    run.fails("next", ONE)
    assert len(run.counts.news()) == 1, "both counted"


def test_the_scorers_of_a_stream_that_has_ended_are_ended(run):
    run.works("a", ONE)
    run.works("a", ONE)
    run.works("b", TWO)
    run.counts.ask(run.stream, "alone-0", "p", TWO, None)
    run.counts.dismiss(Stream(2, 0))
    run.counts.dismiss(Stream(3, 0))
    assert run.ended == ["actor a", "actor b"]


def test_a_scorer_that_asks_after_its_stream_has_ended_ends(run):
    run.works("a", ONE)
    run.counts.dismiss(Stream(2, 0))
    assert (run.asks("a", ONE).go, run.starts("b", TWO).go) == (Go.END, Go.END)


def test_units_that_a_neighbour_on_the_device_finishes_are_units_in_between(run):
    for _ in range(10):
        run.works("a", ONE)
        run.fails("a", ONE)
        run.counts.finished(ONE)
        run.works("b", ONE)
        run.fails("b", ONE)
    assert run.counts.news() == [], "a share of a GPU that works"
    run.fails("a", ONE)
    run.fails("b", ONE)
    assert len(run.counts.news()) == 1


def test_a_count_that_ray_has_started_again_goes_on_with_the_stream(run):
    run.works("a", ONE)
    run.counts = DeviceCounts(lambda: run.alive, run.ended.append, lambda: run.time)
    assert run.works("a", ONE).go is Go.WORK and run.works("b", TWO).go is Go.WORK
    left_out(run, "a", ONE)
    assert run.starts("a", ONE).go is Go.END, "b works"
    left_out(run, "b", TWO)
    assert run.starts("b", TWO).go is Go.REFUSE and run.counts.gone() is not None


def test_why_no_device_was_left_belongs_to_one_stream_of_scorers(run):
    run.works("b", TWO)
    left_out(run, "a", ONE)
    run.starts("a", ONE)
    left_out(run, "b", TWO)
    assert run.starts("b", TWO).go is Go.REFUSE and run.counts.gone() is not None
    run.stream = Stream(2, 0)
    run.counts.begin(run.stream)
    assert run.counts.gone() is None
    assert run.starts("alone-0", ONE).go is Go.REFUSE and run.counts.gone() is None, "it only holds its device"
