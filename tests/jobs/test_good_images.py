"""Lists of excluded images."""

from pathlib import Path

import pytest

from jobs.errors import UsageError
from jobs.good_images import Exclusions


def test_by_key_uri_or_hash_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "exclude.txt"
    path.write_text("# by QA\na.png\n\nfile:///x/b.png\n00ff\nnever.png\n")
    exclusions = Exclusions(path)
    row = {"key": "-", "uri": "-", "content_hash": "-"}
    assert row | {"key": "a.png"} in exclusions
    assert row | {"uri": "file:///x/b.png"} in exclusions
    assert row | {"content_hash": "00ff"} in exclusions
    assert row | {"key": "# by QA"} not in exclusions and row not in exclusions
    assert exclusions.unused() == {"never.png"}


def test_no_list_excludes_nothing_and_a_missing_one_is_said() -> None:
    assert {"key": "a", "uri": "b", "content_hash": "c"} not in Exclusions(None)
    with pytest.raises(UsageError, match="--exclude must be a readable text file"):
        Exclusions(Path("/no/such/file"))
