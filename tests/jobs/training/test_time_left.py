import pytest

from jobs.training.time_left import TimeLeft
from models.detector import Step


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


def taken(left, clock, phase, epochs, steps, step_s, exam_s, until):
    """Steps of a phase, up to `until` = (epoch, step); the clock goes by step_s a step and exam_s after an epoch."""
    for epoch in range(epochs):
        for step in range(steps):
            clock.now += step_s
            left.step(phase, Step(epoch, epochs, step, steps, 0.0))
            if (epoch, step) == until:
                return
        clock.now += exam_s


@pytest.mark.parametrize(("until", "expected"), [((0, 0), None), ((0, 9), None), ((1, 0), 38 + 2 * 7 + 60), ((2, 9), 7 + 60)])
def test_the_whole_is_known_once_an_exam_was_measured(until, expected):
    """3 epochs of 10 steps of 2 s with an exam of 7 s each, then a training of the same steps."""
    clock = Clock()
    left = TimeLeft(clock)
    assert left.seconds() is None
    taken(left, clock, "selection", 3, 10, 2.0, 7.0, until)
    assert left.seconds() == (None if expected is None else pytest.approx(expected))
    assert until == (0, 0) or left.of_phase() == pytest.approx(40 if expected is None else expected - 60)


def test_more_images_take_longer_steps_and_the_training_has_no_exams():
    clock = Clock()
    left = TimeLeft(clock)
    left.growth = 1.5
    taken(left, clock, "selection", 2, 10, 2.0, 7.0, (1, 9))
    assert left.seconds() == pytest.approx(7 + 1.5 * 40)
    clock.now += 100  # the rest of the selection and whitening are no step
    taken(left, clock, "training", 2, 15, 2.0, 0.0, (0, 4))
    assert left.seconds() == pytest.approx(25 * 2)


def test_without_a_selection_two_steps_tell():
    clock = Clock()
    left = TimeLeft(clock)
    taken(left, clock, "training", 4, 5, 3.0, 0.0, (0, 1))
    assert left.seconds() == pytest.approx(18 * 3)
