"""The backbone as detectors use it: pixels in, the maps of its taps out, in the artifact's arithmetic."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from models.backbones import backbone as backbones
from models.backbones.backbone import BackboneConfig
from models.backbones.exact_layers import keep_float32
from models.backbones.half import compute_in_half
from models.backbones.preprocess import Normalise
from models.backbones.reductions import taps_beside
from models.backbones.taps import default_taps
from models.config import ArtifactConfig
from models.maps.grids import Maps

CPU_PIXELS_PER_PASS = 4 * 256 * 256


class _Passes(threading.local):
    """What has passed in this thread, by the extractor's id: the images of each pass, and its maps."""

    def __init__(self) -> None:
        self.of: dict[int, list[tuple[Tensor, Maps]]] = {}


_passes = _Passes()


class FeatureExtractor(nn.Module):
    """A frozen backbone with its input normalisation.

    config: the resolved BackboneConfig, with the network's structure. channels, grids: of every tap, for images of the
    artifact's input size. scale_grids: the same grids for every level of the pyramid. beside, beside_channels, beside_grids:
    the layers that are read beside the config's taps, and the same of them.

    >>> from models.config import InputConfig
    >>> network = BackboneConfig(name="test_resnet", weights="none")
    >>> config = ArtifactConfig(name="tile", input=InputConfig(height=64, width=96), backbone=network)
    >>> FeatureExtractor(config, default_reductions=(8, 16)).grids
    [(8, 12), (4, 6)]
    """

    config: BackboneConfig

    def __init__(
        self,
        config: ArtifactConfig,
        default_reductions: Sequence[int] = (16,),
        scales: int = 1,
        beside: Sequence[str | int] = (),
        beside_reductions: Sequence[int] = (),
    ):
        """Args:
        config: backbone, input size and precision are read.
        default_reductions: the strides whose deepest features are tapped when the config names no taps and
            `models.backbones.taps` has none for this detector and backbone.
        scales: how many levels of a pyramid the detector feeds.
        beside: further layers to read, given in the way of the taps (by name or by index).
        beside_reductions: strides whose deepest features are read beside the taps when beside is empty.
        """
        super().__init__()
        if config.backbone is None:
            raise ValueError(f"backbone must be given for the detector {config.detector}; got none. Name a timm model.")
        height, width = config.input.height, config.input.width
        taps = config.backbone.taps or default_taps(config.detector, config.backbone.name) or ()
        self.config = backbones.resolve(config.backbone.model_copy(update={"taps": taps}), default_reductions)
        assert self.config.mean is not None and self.config.std is not None
        self.mean, self.std = self.config.mean, self.config.std
        self.normalise = Normalise(self.mean, self.std)
        self.precision = config.precision
        own = self.config.taps
        self.beside = tuple(beside) or taps_beside(self.config, beside_reductions)
        taps = (*own, *(tap for tap in self.beside if tap not in own))
        self._places = [taps.index(tap) for tap in (*own, *self.beside)]
        self.network = backbones.create(self.config.model_copy(update={"taps": taps}), height, width, scales)
        found = self.network.structure
        assert found is not None
        self.config = self.config.model_copy(update={"structure": found})
        if self.precision == "bf16":
            keep_float32(self.network.model, found.float32)
        elif self.precision == "fp16":
            compute_in_half(self.network)
        self.channels = list(found.channels[: len(own)])
        self.scale_grids = [list(grids[: len(own)]) for grids in found.grids]
        self.grids = self.scale_grids[0]
        places = self._places[len(own) :]
        self.beside_channels = [found.channels[place] for place in places]
        self.beside_grids = [found.grids[0][place] for place in places]
        self._others: list[FeatureExtractor] = []  # a list, so that another's network is no part of this one's state

    @property
    def names(self) -> tuple[str | int, ...]:
        """Every layer that is read, the config's taps first, each once."""
        own = self.config.taps
        return (*own, *(tap for tap in self.beside if tap not in own))

    def read_from(self, other: "FeatureExtractor") -> None:
        """From now on the layers come from another's passes, which must read them all; this one's own network is dropped.

        >>> from models.config import InputConfig
        >>> both = BackboneConfig(name="test_resnet", weights="none", taps=(2, 3))
        >>> made = [
        ...     FeatureExtractor(ArtifactConfig(name="tile", input=InputConfig(height=64, width=64), backbone=network))
        ...     for network in (both, both.model_copy(update={"taps": (3,)}))
        ... ]
        >>> made[1].read_from(made[0])
        >>> images = torch.zeros(1, 3, 64, 64)
        >>> torch.equal(made[1](images)[0], made[0](images)[1])
        True
        """
        known = other.names
        self._places = [known.index(tap) for tap in (*self.config.taps, *self.beside)]
        self._others = [other]
        del self.network

    @contextmanager
    def passing_once(self) -> Iterator[None]:
        """Inside, a tensor of images goes through the network once, whoever reads it."""
        _passes.of[id(self)] = []
        try:
            yield
        finally:
            del _passes.of[id(self)]

    def prepare(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB to normalised (B, 3, H, W) float32."""
        return self.normalise(images)

    def forward(self, inputs: Tensor) -> Maps:
        """Normalised images (B, 3, H, W) to one (B, C_t, h_t, w_t) float32 per tap, in their order, those beside last."""
        maps = (self._others or [self])[0].passed(inputs)
        return [maps[place] for place in self._places]

    def passed(self, images: Tensor) -> Maps:
        """The maps of all `names`."""
        earlier = _passes.of.get(id(self))
        for known, maps in earlier or ():
            if known is images:
                return maps
        inputs = images.contiguous(memory_format=torch.channels_last)
        if self.precision == "fp16":
            inputs = inputs.half()
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            parts = [self.network(part) for part in self._passes(inputs)]
        maps = [torch.cat([x.float() for x in taps]) if len(taps) > 1 else taps[0].float() for taps in zip(*parts, strict=True)]
        if earlier is not None:
            earlier.append((images, maps))
        return maps

    def _passes(self, inputs: Tensor) -> Sequence[Tensor]:
        """The images in parts whose activations stay in a processor's cache; a GPU gets all at once. The parts have one size,
        so that every slot of a batch meets the same arithmetic."""
        if inputs.device.type != "cpu":
            return [inputs]
        count = len(inputs)
        limit = max(1, CPU_PIXELS_PER_PASS // (inputs.shape[-2] * inputs.shape[-1]))
        return inputs.split(max(size for size in range(1, min(limit, count) + 1) if count % size == 0))
