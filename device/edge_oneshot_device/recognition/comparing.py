"""A probe compared with the templates in memory."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import EmbeddingSection
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.roster import find
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.matching.decision import join, scores
from edge_oneshot_device.recognition.attempts import Comparison
from edge_oneshot_device.recognition.policy import Policy

_ROUNDING: Final = 1e-3  # of a probe's length


def check_probe(probe: NDArray[np.float32], frames: int, embedding: EmbeddingSection) -> None:
    """Refuse a probe that was not made as embeddings are: a longer one would score higher with everybody.

    Args:
        probe: float32 (d,); for ``cosine`` of length 1, as the mean of several frames of length 1 at most.
        frames: How many frames it is made from.
        embedding: How embeddings are compared.

    Raises:
        InputError: ``bad_probe``.
    """
    fits = probe.shape == (embedding.size,) and probe.dtype == np.float32 and bool(np.isfinite(probe).all())
    length = float(np.linalg.norm(probe.astype(np.float64)))
    if embedding.metric == "cosine":
        fits = fits and (1.0 if frames == 1 else 2 * _ROUNDING) - _ROUNDING <= length <= 1.0 + _ROUNDING
    if not fits or frames < 1:
        message = f"the probe of {frames} frames is {probe.dtype} {probe.shape} of length {length:g}; give a finite"
        message = f"{message} float32 ({embedding.size},), for cosine of length 1 or, of several frames, their mean"
        raise InputError(message, reason="bad_probe")


def compare_with_all(policy: Policy, probe: NDArray[np.float32] | None, cache: TemplateCache) -> Comparison:
    """Everybody compared with a probe; without one, what there is to compare with.

    Args:
        policy: What the decision goes by.
        probe: float32 (d,).
        cache: The templates in memory.

    Raises:
        InputError: ``uncalibrated``.
    """
    calibration = policy.calibration(cache.most, cache.fewest)
    best, runner_up, *_ = [*([] if probe is None else cache.index.search(probe)), None, None]
    return Comparison(best, runner_up, cache.index.people, calibration, policy.target(calibration), policy.encoder)


def compare_with(
    gallery: Gallery, policy: Policy, person: str, probe: NDArray[np.float32] | None, cache: TemplateCache
) -> Comparison | None:
    """A person compared with a probe, if there is one; None where no template of theirs is in memory.

    Args:
        gallery: Knows the person's number.
        policy: What the decision goes by.
        person: The name.
        probe: float32 (d,).
        cache: The templates in memory.

    Raises:
        InputError: ``not_enrolled``, ``bad_name`` or ``uncalibrated``.
    """
    with gallery.reading() as transaction:
        number = find(transaction, person)[0]
    own = cache.index.templates_of(number)
    if not len(own):
        return None
    calibration = policy.calibration(len(own))
    score = -math.inf
    if probe is not None:
        every = scores(probe, own, policy.metric)
        score = float(join(every, np.zeros(len(own), dtype=np.int64), 1, calibration.rule)[0])
    return Comparison((number, score), None, 1, calibration, policy.target(calibration), policy.encoder)
