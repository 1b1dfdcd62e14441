import pytest

from models.batch_size import default_batch_size


@pytest.mark.parametrize(
    ("device", "height", "width", "expected"),
    [
        ("cpu", 64, 64, 16),
        ("cpu", 768, 768, 16),
        ("cuda", 64, 64, 64),
        ("cuda", 256, 256, 64),
        ("cuda", 257, 256, 32),
        ("cuda", 256, 512, 32),
        ("cuda", 384, 384, 16),
        ("cuda", 768, 768, 16),
        ("cuda", 8192, 8192, 16),
    ],
)
def test_it_falls_with_the_pixels_of_a_gpus_images(device, height, width, expected):
    assert default_batch_size(device, height, width) == expected
