import io

from jobs.training.phases import DEFECTS, LIGHT, READING, SAVING, SELECTION, TRAINING, Phases
from models.detector import Step, Work


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def said(out):
    """The lines without their times."""
    return [line.partition(" ")[2] for line in out.getvalue().splitlines()]


def test_phases_are_numbered_and_the_whole_is_told_once_it_is_known():
    clock, out = Clock(), io.StringIO()
    with Phases(selects=True, stream=out, clock=clock) as phases:
        phases.begin(READING)
        phases.begin(DEFECTS)
        phases.begin(SELECTION)
        for epoch in range(2):
            for step in range(3):
                clock.now += 4
                phases.step(SELECTION, Step(epoch, 2, step, 3, 0.25))
            clock.now += 20
        phases.begin(TRAINING)
        phases.begin(SAVING)
    lines = said(out)
    assert [line for line in lines if line.startswith("phase")] == [
        "phase 1 of 5: reading images and extracting features",
        "phase 2 of 5: making synthetic defects of held-out images",
        "phase 3 of 5: selecting how many epochs to train",
        "phase 4 of 5: training",
        "phase 5 of 5: saving the model",
    ]
    steps = [line for line in lines if line.startswith("selection: ")]
    assert steps[0].startswith("selection: 1/6 steps, 16%") and "epoch 1, loss 0.25" in steps[0]
    assert steps[-1].startswith("selection: 6/6 steps, 68%")  # 44 s of 64: an exam is still to come
    # After the first step of the second epoch: 2 steps and one exam of 20 s remain, and 6 steps of the training.
    assert "about 52 s to the end of the training, less if the selection stops early" in lines
    assert len([line for line in lines if line.startswith("about")]) == 1  # and again after 30 s


def test_without_a_selection_there_are_three_and_one_more_for_copies_in_other_light():
    for lights, names in ((False, (READING, TRAINING, SAVING)), (True, (READING, LIGHT, TRAINING, SAVING))):
        out = io.StringIO()
        with Phases(selects=False, lights=lights, stream=out) as phases:
            for name in names:
                phases.begin(name)
        numbered = [line.partition(":")[0] for line in said(out) if line.startswith("phase")]
        assert numbered == [f"phase {i + 1} of {len(names)}" for i in range(len(names))]


def test_on_a_terminal_lines_stand_below_the_bar_not_behind_it(monkeypatch):
    """Those on standard output too: a terminal shows both."""
    clock, out = Clock(), Terminal()
    monkeypatch.setattr("sys.stdout", out)
    with Phases(selects=True, stream=out, clock=clock) as phases:
        phases.begin(SELECTION)
        phases.step(SELECTION, Step(0, 2, 0, 2, 0.5))
        phases.tell("epoch 1: synthetic defects")
        clock.now += 4
        phases.step(SELECTION, Step(0, 2, 1, 2, 0.5))
        clock.now += 20
        phases.step(SELECTION, Step(1, 2, 0, 2, 0.5))  # the time of the whole is known
        phases.begin(TRAINING)
    lines = out.getvalue().splitlines()
    bars = [line for line in lines if "[" in line]
    assert all(line.startswith(("\r[", "[")) for line in bars) and len(bars) >= 3
    others = [line for line in lines if line and line not in bars]
    assert others[:2] == ["phase 3 of 5: selecting how many epochs to train", "epoch 1: synthetic defects"]
    assert others[2].startswith("about ") and others[3] == "phase 4 of 5: training" and len(others) == 4


def test_a_silence_tells_what_happens_between_steps(monkeypatch):
    clock, out = Clock(), io.StringIO()
    with Phases(selects=True, stream=out, clock=clock) as phases:
        phases.begin(SELECTION)
        phases.step(SELECTION, Step(0, 2, 0, 1, 0.5))
        phases.work(Work("scoring synthetic defects", 0, 80))
        clock.now += 6
        phases.work(Work("scoring synthetic defects", 40, 80))
        phases.progress.still()  # six seconds are no silence
        clock.now += 6
        phases.progress.still()
    assert said(out)[2] == "selection: scoring synthetic defects, 40/80 images, 12 s left"


def test_a_model_that_sees_tiles_counts_them_as_tiles_and_whole_images_as_images():
    for cuts, unit in ((False, "images"), (True, "tiles")):
        with Phases(selects=True, stream=io.StringIO(), cuts=cuts) as phases:
            phases.begin(SELECTION)
            assert phases.progress is not None
            phases.work(Work("whitening", 3, 9))
            assert phases.progress.doing is not None and phases.progress.doing.unit == unit
            phases.work(Work("scoring", 3, 9, "whole images"))
            assert phases.progress.doing.unit == "whole images"
