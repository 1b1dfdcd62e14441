from datetime import UTC, datetime

from pipeline.state.dated_names import named_at, new_name


def test_a_name_says_when_it_was_given_and_nobody_else_gets_it():
    names = [new_name() for _ in range(3)]
    assert len(set(names)) == 3
    assert abs((datetime.now(UTC) - named_at(f"{names[0]}/units.parquet")).total_seconds()) < 600
