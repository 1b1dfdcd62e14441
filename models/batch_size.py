"""How many images a model scores at once, if its training is not told."""

CPU_BATCH = 16
GPU_BATCH, GPU_BATCH_PIXELS = 64, 256 * 256


def default_batch_size(device: str, height: int, width: int) -> int:
    """Images per batch for a model trained on the device, whose digest it is part of.

    A CPU gains nothing from more than 16, and a last batch has more blank slots. A GPU takes a thousand launches a batch,
    however few images it has: up to 64 images of 256 x 256 pixels, fewer larger ones (a power of two), at least 16.

    >>> default_batch_size("cpu", 256, 256), default_batch_size("cuda", 256, 256), default_batch_size("cuda", 320, 352)
    (16, 64, 32)
    """
    if device == "cpu":
        return CPU_BATCH
    fitting = max(1, GPU_BATCH * GPU_BATCH_PIXELS // (height * width))
    return max(CPU_BATCH, min(GPU_BATCH, 1 << (fitting.bit_length() - 1)))
