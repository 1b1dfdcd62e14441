"""Scores again the images that a calibration has stored, to compare another scoring mode."""

from collections import defaultdict
from collections.abc import Sequence

from models.calibration.calibration import StoredImage
from pipeline.decode.config import DecodeConfig
from pipeline.in_process import score_encoded
from pipeline.input.config import SourceConfig
from pipeline.input.encoded_rows import EncodedRows
from pipeline.report.stored_images import Wanted, fetch
from pipeline.scoring.scorer import Scorer

MEMORY = "memory://images"


def score_again(images: Sequence[StoredImage], scorer: Scorer, decode: DecodeConfig) -> dict[str, float]:
    """Scores by content hash; images that are gone, changed or unreadable are left out."""
    folders: dict[str, list[StoredImage]] = defaultdict(list)
    for image in images:
        folders[image.uri.rpartition("/")[0]].append(image)
    found: dict[str, float] = {}
    for folder, here in folders.items():
        wanted = [Wanted(image.content_hash, image.uri, image.member, image.content_hash) for image in here]
        stored = fetch(wanted, SourceConfig(input_uri=folder))
        rows = EncodedRows(MEMORY, SourceConfig(input_uri=MEMORY))
        for name, content in stored.items():
            if isinstance(content, bytes):
                rows.add(name, content, len(content))
        if not rows.count:
            continue
        decoded, result = score_encoded(rows.table(), decode, scorer)
        finite = scorer.finite(result)
        for at, (name, error) in enumerate(zip(decoded["key"].to_pylist(), decoded["error"].to_pylist(), strict=True)):
            if error is None and finite[at]:
                found[name] = float(result.score[at])
    return found
