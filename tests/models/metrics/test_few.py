import itertools

import pytest

from models.metrics.few import perfect_by_chance, says_something


@pytest.mark.parametrize(("good", "bad"), [(1, 1), (2, 3), (4, 2)])
def test_the_chance_is_that_of_all_rankings(good: int, bad: int) -> None:
    places = list(itertools.combinations(range(good + bad), bad))
    perfect = [chosen for chosen in places if chosen == tuple(range(good, good + bad))]
    assert perfect_by_chance(good, bad) * len(places) == len(perfect)


@pytest.mark.parametrize(("good", "bad", "enough"), [(1, 1, False), (1, 18, False), (1, 19, True), (3, 3, True), (2, 4, False)])
def test_one_in_twenty_is_enough(good: int, bad: int, enough: bool) -> None:
    assert says_something(good, bad) is enough
