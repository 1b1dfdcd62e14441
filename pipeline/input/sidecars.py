"""Parquet files that describe images beside them instead of holding images."""

from itertools import islice

from pipeline.input import registry
from pipeline.input.archives import TARS
from pipeline.storage.store import Store

IMAGE_FOLDER = "metadata.parquet"  # beside loose images in Hugging Face's image folders
LOOKED_AT = 1000  # objects of such a folder: one request


def describes_others(key: str, store: Store) -> bool:
    """Whether a Parquet file without images is beside what it describes: a tar or a folder of the same name
    (`00000.parquet` of `00000.tar`, as img2dataset writes them), or the images of a folder. At most three requests.
    """
    stem = key[: key.rindex(".")]
    folder, slash, name = key.rpartition("/")
    if name.lower() == IMAGE_FOLDER:
        beside = islice(store.list(folder + slash), LOOKED_AT)
        if any(entry.key != key and registry.claiming(entry.key) is not None for entry in beside):
            return True
    tars = {stem + suffix for suffix in TARS}
    return any(entry.key in tars for entry in store.list(f"{stem}.t")) or next(iter(store.list(f"{stem}/")), None) is not None
