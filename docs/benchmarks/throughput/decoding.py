"""Milliseconds of one core to decode and resize a JPEG of two megapixels, by library, and how far pixels differ.

    PYTHONPATH=. OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python docs/benchmarks/throughput/decoding.py [--size 768]

`pillow` is what a user writes first: open, convert to RGB, resize (bicubic). `product` is pipeline/decode/image.py whole, image
statistics included. In between, what it is made of; then the decoders that are installed, OpenCV too if it is. Times are the
least of so many tries, of the process and not of the clock.
"""

import argparse
import importlib.util
import io
import time
from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from PIL import Image
from scipy import ndimage
from torchvision.io import ImageReadMode, decode_jpeg

from pipeline.decode.config import DecodeConfig
from pipeline.decode.image import decode_image
from pipeline.decode.resize import FILTER, resized

HEIGHT, WIDTH, QUALITY, TRIES = 1200, 1600, 90, 30
KINDS = {"grey": ("L", 0), "colour 4:4:4": ("RGB", 0), "colour 4:2:0": ("RGB", 2)}


def surface(mode: str) -> Image.Image:
    """Texture of several scales; colour with noise."""
    random = np.random.default_rng(0)
    grey = sum(ndimage.gaussian_filter(random.normal(size=(HEIGHT, WIDTH)), sigma) * sigma for sigma in (1, 2, 4, 16, 64))
    levels = 128 + 35 * grey / grey.std()
    if mode == "RGB":
        levels = np.stack([0.9 * levels + 10, levels, 1.05 * levels], 2) + random.normal(0, 3, (HEIGHT, WIDTH, 3))
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def decoders(content: bytes, space: str) -> dict[str, Callable[[], object]]:
    """The whole picture by library, of those that are installed here: what was compared before simplejpeg was chosen."""
    mode = "L" if space == "GRAY" else "RGB"
    found: dict[str, Callable[[], object]] = {
        "Pillow": lambda: np.asarray(Image.open(io.BytesIO(content)).convert(mode)),
        "simplejpeg": lambda: simplejpeg.decode_jpeg(content, space),
    }
    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    wanted = ImageReadMode.GRAY if space == "GRAY" else ImageReadMode.RGB
    found["torchvision"] = lambda: decode_jpeg(data, wanted)
    if importlib.util.find_spec("cv2"):
        import cv2

        flag = cv2.IMREAD_GRAYSCALE if space == "GRAY" else cv2.IMREAD_COLOR
        found["OpenCV"] = lambda: cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    return found


def milliseconds(computation: Callable[[], object]) -> float:
    computation()
    spent = []
    for _ in range(TRIES):
        clock = time.process_time()
        computation()
        spent.append(time.process_time() - clock)
    return 1e3 * min(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=768)
    size = parser.parse_args().size
    config = DecodeConfig(height=size, width=size)
    print(
        "image | KB | pillow | product | ratio | simplejpeg | resize: pillow bilinear | product | largest and mean difference"
    )
    for kind, (mode, subsampling) in KINDS.items():
        sink = io.BytesIO()
        surface(mode).save(sink, "JPEG", quality=QUALITY, subsampling=subsampling)
        content = sink.getvalue()
        space = "GRAY" if mode == "L" else "RGB"
        levels = simplejpeg.decode_jpeg(content, space).reshape((HEIGHT, WIDTH) if mode == "L" else (HEIGHT, WIDTH, 3))
        picture = Image.fromarray(levels)
        difference = np.abs(resized(levels, size, size) - np.asarray(picture.resize((size, size), FILTER)).astype(int))
        pillow = milliseconds(lambda c=content: Image.open(io.BytesIO(c)).convert("RGB").resize((size, size)))
        product = milliseconds(lambda c=content: decode_image(c, config))
        parts = (
            milliseconds(lambda c=content, s=space: simplejpeg.decode_jpeg(c, s)),
            milliseconds(lambda p=picture: p.resize((size, size), FILTER)),
            milliseconds(lambda x=levels: resized(x, size, size)),
        )
        cells = [kind, str(len(content) // 1000), f"{pillow:.1f}", f"{product:.1f}", f"{pillow / product:.2f}"]
        print(" | ".join([*cells, *(f"{part:.1f}" for part in parts), f"{difference.max()} {difference.mean():.3f}"]))
        print(f"{kind}, decoded whole: " + ", ".join(f"{n} {milliseconds(d):.1f}" for n, d in decoders(content, space).items()))


if __name__ == "__main__":
    main()
