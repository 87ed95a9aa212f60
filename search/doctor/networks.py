"""Checks of each network of the search space and of the weights that it starts from."""

from collections.abc import Iterator
from itertools import product

from canopy_search.search.config.settings import CanopyConfig
from canopy_search.search.config.space import parse_space
from canopy_search.search.doctor.finding import Finding, error, failure, ok
from canopy_search.search.study.preflight import choices
from canopy_search.training.data.dataset import DataFacts
from canopy_search.training.errors import TrainingError
from canopy_search.training.network.backbones import (
    check_backbone_fits,
    published_weights,
    weights_fit,
)
from canopy_search.training.network.pretrained import BRING_WEIGHTS, unavailable
from canopy_search.training.settings import is_weights_file

_REMEDY = "choose another backbone or other weights"


def check_networks(config: CanopyConfig, images: DataFacts) -> Iterator[Finding]:
    """Reports for each network whether it takes the images and whether its weights can be had.

    Args:
        config: the whole configuration.
        images: numbers and size of the images.
    """
    space = parse_space(config.search, config.training)
    for backbone, weights in product(choices(space, "backbone"), choices(space, "weights")):
        try:
            yield _checked(backbone, weights, images)
        except TrainingError as problem:
            yield failure("networks", str(problem), _REMEDY)


def _checked(backbone: str, weights: str, images: DataFacts) -> Finding:
    shape = {"labels": images.labels, "image_px": images.image_px}
    check_backbone_fits(backbone, **shape)
    found = f"{backbone} takes images of {images.image_px} px"
    if is_weights_file(weights):
        return ok("networks", f"{found}; {weights_fit(backbone, weights, **shape)}")
    published = published_weights(backbone) if weights == "imagenet" else None
    if published is None:
        return ok("networks", found)
    reason = unavailable([published]).get(published)
    if reason is not None:
        return error("networks", f"{backbone}: {published.url}: {reason}", BRING_WEIGHTS)
    place = (
        f"are in {published.cached.parent}" if published.cached.exists() else "can be downloaded"
    )
    return ok("networks", f"{found}; its published weights {place}")
