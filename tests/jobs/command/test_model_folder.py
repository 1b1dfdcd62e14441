"""No verb is silent while it copies a model."""

from pathlib import Path

import pytest

from jobs.command import model_folder
from jobs.command.progress import Progress
from pipeline.storage.store import open_store


def test_a_model_in_storage_is_copied_under_a_progress(s3_bucket: str, tmp_path: Path, monkeypatch) -> None:
    open_store(s3_bucket).put("card.md", b"# card")
    under_way: list[str] = []

    class Watched(Progress):
        def __enter__(self):
            under_way.append(self.label)
            assert not list(tmp_path.iterdir())
            return super().__enter__()

        def __exit__(self, *ended):
            assert len(list(tmp_path.iterdir())) == 1
            super().__exit__(*ended)

    monkeypatch.setattr(model_folder, "Progress", Watched)
    assert (model_folder.model_folder(s3_bucket, tmp_path) / "card.md").read_bytes() == b"# card"
    assert under_way == ["copying the model"]


def test_a_model_on_this_machine_is_left_where_it_is(tmp_path: Path) -> None:
    assert model_folder.model_folder(str(tmp_path), tmp_path / "cache") == tmp_path


@pytest.mark.parametrize("verb", sorted(Path("jobs").glob("*.py")), ids=lambda path: path.stem)
def test_every_verb_copies_so(verb: Path) -> None:
    assert "local_copy" not in verb.read_text()
