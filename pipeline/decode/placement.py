"""Where an image lies in the model's input: what leads from cells of a map back to pixels of the stored image."""

from models.maps.regions import Placement, Side
from pipeline.decode.image import DecodeConfig, content_size


def placement(stored: tuple[int, int], config: DecodeConfig) -> Placement:
    """The part of the input that shows an image of `stored` (width, height) px: all of it, or what is left of padding."""
    across, down = content_size(stored, config)
    left, top = (config.width - across) // 2, (config.height - down) // 2
    return Placement(Side(config.width, left, across, stored[0]), Side(config.height, top, down, stored[1]))
