"""A model in storage as a folder of this machine; a long copy says that it is under way."""

import os
from pathlib import Path

from jobs.command.progress import Progress
from pipeline.storage.copies import local_copy


def model_folder(uri: str | os.PathLike[str], cache_dir: Path) -> Path:
    """The folder; that of a model on this machine itself. Raises Gone where storage has nothing, StorageError."""
    with Progress("copying the model", total=None):
        return local_copy(uri, cache_dir.expanduser())
