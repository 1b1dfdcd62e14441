import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from pipeline.decode.resize import FILTER, LARGE_PIXELS, resized

DIGEST = """
import hashlib
import numpy as np
from pipeline.decode.resize import resized
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for shape, size in (((900, 700, 3), (320, 256)), ((3000, 180, 3), (64, 200)), ((768, 900, 3), (1000, 1100))):
    digest.update(resized(rng.integers(0, 256, shape, np.uint8), *size).tobytes())
print(digest.hexdigest())
"""


def surface(height, width, channels, seed=0):
    """Texture of several scales with noise, (height, width[, 3]) uint8."""
    rng = np.random.default_rng(seed)
    grey = sum(ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma) * sigma for sigma in (1, 4, 16))
    levels = 128 + 40 * grey / grey.std()
    if channels == 3:
        levels = np.stack([0.9 * levels + 10, levels, 1.05 * levels], 2) + rng.normal(0, 4, (height, width, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


def by_pillow(levels, width, height):
    return np.asarray(Image.fromarray(levels).resize((width, height), FILTER)).astype(int)


@pytest.mark.parametrize("shape", [(1200, 1600), (2000, 300), (724, 725), (5000, 110)])
@pytest.mark.parametrize("size", [(768, 768), (256, 256), (300, 1500), (2000, 900), (1, 1)])
def test_a_large_colour_picture_is_within_one_level_of_pillows(shape, size):
    levels = surface(*shape, 3)
    assert levels.shape[0] * levels.shape[1] >= LARGE_PIXELS
    found = resized(levels, *size)
    difference = np.abs(found - by_pillow(levels, *size))
    assert found.dtype == np.uint8 and found.shape == (size[1], size[0], 3) and found.flags.c_contiguous
    assert difference.max() <= 1 and difference.mean() <= 0.25


@pytest.mark.parametrize("levels", [surface(1200, 1600, 1), surface(700, 700, 3), surface(9, 7, 3)])
def test_grey_and_small_pictures_are_pillows(levels):
    assert (resized(levels, 320, 200) == by_pillow(levels, 320, 200)).all()
    assert resized(levels, levels.shape[1], levels.shape[0]) is levels


def test_pixels_do_not_depend_on_the_processors_instructions():
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=os.environ | {"ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for capability in ("default", "avx2")
    }
    assert len(found) == 1


def test_a_picture_too_large_for_memory_is_a_memory_error(monkeypatch):
    from pipeline.decode import resize

    class Full:
        def __getattr__(self, name):
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    torch = resize._torch()
    monkeypatch.setattr(torch.nn, "functional", Full())
    with pytest.raises(MemoryError, match="can't allocate"):
        resized(np.zeros((800, 800, 3), np.uint8), 10, 10)
