"""The colour scale that a calibration has measured for the heat maps of its model."""

from models.artifact import CALIBRATION_FILES
from models.calibration.files import map_scale
from pipeline.report.pictures import ColourScale
from pipeline.storage.objects import Gone
from pipeline.storage.store import open_store

BASIS = "50 to 99.9 % of good images"


def calibrated_scale(uri: str, model_digest: str) -> ColourScale | None:
    """The scale in the calibration.json that lies at `uri`; its arrays and the rest of a model need not be there.

    Args:
        uri: of a folder: a model's, or the copy that an output keeps of a model or of a calibration alone.
        model_digest: of the model that the calibration must belong to.
    Returns:
        None if no calibration is there, or if it was made before calibrations had a scale.
    Raises:
        ArtifactError: the file is damaged, of a newer format, or of another model.  StorageError.
    """
    store, name = open_store(uri), CALIBRATION_FILES[0]
    try:
        content = store.get(name)
    except Gone:
        return None
    found = map_scale(content, model_digest, f"{store.uri}/{name}")
    return None if found is None else ColourScale(found.low, found.high, BASIS)
