"""Parquet files that describe images beside them instead of holding images."""

from pipeline.storage.store import Store

TARS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst")
IMAGE_FOLDER = "metadata.parquet"  # beside loose images in Hugging Face's image folders


def describes_others(key: str, store: Store) -> bool:
    """Whether a Parquet file without images is beside what it describes: a tar or a folder of the same name
    (`00000.parquet` of `00000.tar`, as img2dataset writes them), or the images of a folder. At most two requests.
    """
    stem = key[: key.rindex(".")]
    if key.rpartition("/")[2].lower() == IMAGE_FOLDER:
        return True
    tars = {stem + suffix for suffix in TARS}
    return any(entry.key in tars for entry in store.list(f"{stem}.t")) or next(iter(store.list(f"{stem}/")), None) is not None
