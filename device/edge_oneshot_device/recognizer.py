"""Enrol, verify, identify: the encoder, the gallery and the calibration brought together."""

import os
from types import TracebackType
from typing import Self

import numpy as np

from edge_oneshot_device import state as states
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import Enrolment, Gallery, Person, not_enrolled, person_name
from edge_oneshot_device.manifest import Calibration, Manifest
from edge_oneshot_device.matching import (
    MAX_TEMPLATES,
    Decision,
    calibration_for,
    decide_identify,
    decide_verify,
    join,
    scores,
)

ImageSource = str | os.PathLike[str] | bytes
"""An image file, by its path or its content."""


class Recognizer:
    """Recognizes people, or whatever the bundle was made for. A context manager, for one thread.

    ::

        with Recognizer.open("/var/lib/edge-oneshot") as recognizer:
            recognizer.enrol("ada", "ada.jpg")
            decision = recognizer.identify("visitor.jpg")

    Args:
        encoder: Makes the embeddings.
        manifest: Its calibration turns scores into decisions.
        gallery: Opened for the encoder's fingerprint; closed with the recognizer.
        target_far: Wanted false accept rate of an attempt; None takes the smallest that the
            calibration supports.
    """

    def __init__(self, encoder: Encoder, manifest: Manifest, gallery: Gallery, target_far: float | None = None) -> None:
        self._encoder = encoder
        self._manifest = manifest
        self._gallery = gallery
        self._target_far = target_far
        counts = [c.templates for c in manifest.calibration if c.variant == encoder.variant]
        self._most = min(max(counts, default=MAX_TEMPLATES), MAX_TEMPLATES)

    @classmethod
    def open(cls, state: str | os.PathLike[str] | None = None) -> Self:
        """Open what `edge-oneshot-device init` installed.

        Args:
            state: The state folder; None takes EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot.

        Raises:
            InputError: Reason ``not_initialised``.
            IntegrityError: The bundle, the settings or the gallery is not as it was left.
            MachineError: The disk or the runtime failed.
        """
        settings, bundle = states.load(state)
        encoder = Encoder.open(bundle, settings.variant, runtime=settings.runtime, threads=settings.threads)
        path = states.state_dir(state) / states.GALLERY
        gallery = Gallery.open(path, encoder.fingerprint, encoder.embedding.size)
        return cls(encoder, bundle.manifest, gallery, settings.target_far)

    def __enter__(self) -> Self:
        """The recognizer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the gallery; closing twice is fine."""
        self._gallery.close()

    def enrol(self, person: str, *images: ImageSource, add: bool = False, replace: bool = False) -> Enrolment:
        """Enrol a person from one image or more. All of them are kept, or none.

        Args:
            person: Name of 1 to 128 printable characters; kept in the normal form NFC.
            images: Image files, each of which becomes a template.
            add: Add to the templates of somebody enrolled.
            replace: Put these in the place of the former ones.

        Raises:
            InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled``, ``too_many_templates``,
                ``no_content``, or another fault of an image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        person = person_name(person)
        if not images:
            raise InputError(f"no image to enrol {person} from: name at least one", reason="wrong_use")
        if add and replace:
            raise InputError("--add and --replace exclude each other: choose one", reason="wrong_use")
        if len(images) > self._most:
            message = f"{len(images)} images for {person}: at most {self._most} templates a person are possible"
            raise InputError(message, reason="too_many_templates")
        templates = np.stack([self._encoder.embed_image(image) for image in images])
        return self._gallery.enrol(person, templates, add=add, replace=replace, most=self._most)

    def verify(self, person: str, image: ImageSource) -> Decision:
        """Decide 1:1 whether the image shows `person`.

        Raises:
            InputError: Reason ``not_enrolled``, ``bad_name``, ``uncalibrated``, or a fault of the image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        person = person_name(person)
        enrolled = self._gallery.templates()
        if person not in enrolled.names:
            raise not_enrolled(person)
        index = enrolled.names.index(person)
        calibration = self._calibration(int(enrolled.counts[index]))
        probe = self._encoder.embed_image(image)
        own = scores(probe, enrolled.matrix[enrolled.owners == index], self._encoder.embedding.metric)
        score = float(join(own, np.zeros(len(own), dtype=np.int64), 1, calibration.rule)[0])
        return decide_verify(person, score, calibration, self._target(calibration), self._encoder)

    def identify(self, image: ImageSource) -> Decision:
        """Decide 1:N who the image shows, if anybody enrolled.

        Raises:
            InputError: Reason ``uncalibrated``, or a fault of the image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        enrolled = self._gallery.templates()
        most = int(enrolled.counts.max(initial=1))
        calibration = self._calibration(most, int(enrolled.counts.min(initial=most)))
        probe = self._encoder.embed_image(image)
        every = scores(probe, enrolled.matrix, self._encoder.embedding.metric)
        joined = join(every, enrolled.owners, len(enrolled.names), calibration.rule)
        return decide_identify(enrolled.names, joined, calibration, self._target(calibration), self._encoder)

    def people(self) -> list[Person]:
        """Everybody enrolled, by name.

        Raises:
            IntegrityError: The gallery is damaged.
            MachineError: The disk failed.
        """
        return self._gallery.people()

    def forget(self, person: str) -> Enrolment:
        """Delete a person and all of their templates.

        Raises:
            InputError: Reason ``not_enrolled`` or ``bad_name``.
            MachineError: The disk failed.
        """
        return self._gallery.forget(person)

    def _calibration(self, templates: int, fewest: int | None = None) -> Calibration:
        return calibration_for(self._manifest, self._encoder.variant, templates, fewest)

    def _target(self, calibration: Calibration) -> float:
        return calibration.target_far if self._target_far is None else self._target_far
