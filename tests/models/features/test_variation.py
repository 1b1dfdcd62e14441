import pytest
import torch

from models.features.variation import LEAST_SHARE, READ_IMAGES, NoVariation, check_varied


def reader(maps, read=None):
    def of(positions):
        if read is not None:
            read.extend(positions.tolist())
        return [x[positions] for x in maps]

    return of


def test_images_that_differ_are_known_by_the_first_few():
    read = []
    maps = [torch.zeros(40, 3, 2, 2), torch.randn(40, 3, 1, 1)]
    check_varied(reader(maps, read), torch.arange(40))
    assert read == list(range(READ_IMAGES))


@pytest.mark.parametrize("level", [0.0, 7.0, -1e-3])
def test_copies_are_refused(level):
    cells = torch.linspace(0, level, 12).view(1, 3, 2, 2)  # of one image they may differ
    with pytest.raises(NoVariation, match="all of them have the same features"):
        check_varied(reader([cells.repeat(30, 1, 1, 1)]), torch.arange(30))


def test_one_other_image_is_enough_and_rounding_is_not():
    maps = torch.ones(30, 3, 2, 2)
    maps[:, 0, 0, 0] += 0.9 * LEAST_SHARE * torch.rand(30)
    with pytest.raises(NoVariation):
        check_varied(reader([maps]), torch.arange(30))
    maps[29] += 0.1
    check_varied(reader([maps]), torch.arange(30))


def test_features_that_are_not_finite_are_left_to_who_names_them():
    check_varied(reader([torch.full((3, 1, 2, 2), float("nan"))]), torch.arange(3))
