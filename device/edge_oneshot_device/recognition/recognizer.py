"""Enrol, verify, identify: the encoder, the gallery and the calibration brought together."""

import math
import os
import sqlite3
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Calibration, Manifest
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.sources import ImageSource, take_file, take_picture
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal, refuse_identification, refuse_verification, unlock
from edge_oneshot_device.gallery.mirror import TRIES, ChangedError, Mirror, changing
from edge_oneshot_device.gallery.people import Enrolment, Person, new_name, person_name
from edge_oneshot_device.matching.decision import Decision, join, scores
from edge_oneshot_device.matching.thresholds import Outlook, calibration_for, threshold_for
from edge_oneshot_device.recognition.attempts import Comparison, Work, identification, settle_at_last, verification
from edge_oneshot_device.recognition.choosing import Choice, choose
from edge_oneshot_device.recognition.enrolment import check_fit, most_templates
from edge_oneshot_device.recognition.outlook import outlook_of
from edge_oneshot_device.state.opening import open_installed

if TYPE_CHECKING:
    from edge_oneshot_device.liveness.watcher import Watcher

DEFAULT_LIMITS: Final = Limits()


class Unlocked(msgspec.Struct, frozen=True):
    """A person who may try 1:1 again.

    Attributes:
        person: The name.
        failures: In a row, before.
    """

    person: str
    failures: int


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
        limits: How often one may try; None: as often as one likes, for benchmarks.
        keep_photos: Keep the images that people are enrolled from, sealed.

    Attributes:
        gallery: Who is enrolled, and the record.
        most_templates: That a person may have: what the bundle is calibrated for.
    """

    def __init__(
        self,
        encoder: Encoder,
        manifest: Manifest,
        gallery: Gallery,
        target_far: float | None = None,
        *,
        limits: Limits | None = DEFAULT_LIMITS,
        keep_photos: bool = False,
    ) -> None:
        self.gallery = gallery
        self._encoder = encoder
        self._manifest = manifest
        self._target_far = target_far
        self._limits = limits
        self._keep_photos = keep_photos
        self.most_templates = most_templates(manifest, encoder.variant)

    @classmethod
    def open(
        cls,
        state: str | os.PathLike[str] | None = None,
        *,
        key: str | os.PathLike[str] | None = None,
        limits: Limits | None = DEFAULT_LIMITS,
    ) -> Self:
        """Open what `edge-oneshot-device init` installed.

        Args:
            state: The state folder; None takes EDGE_ONESHOT_STATE, else ~/.local/state/edge-oneshot.
            key: The file of the gallery's key; None looks where `find_key` says.
            limits: How often one may try; None: as often as one likes, for benchmarks. How many
                rejections a minute the door takes is what `init` was told, unless limits are given.

        Raises:
            InputError: Reason ``not_initialised``.
            IntegrityError: The bundle, the settings, the key or the gallery is not as it was left.
            MachineError: The disk or the runtime failed.
        """
        opened = open_installed(state, key=key)
        settings = opened.settings
        if limits is DEFAULT_LIMITS:
            limits = Limits(rejections_per_minute=settings.rejections_per_minute)
        return cls(
            opened.encoder,
            opened.bundle.manifest,
            opened.gallery,
            settings.target_far,
            limits=limits,
            keep_photos=settings.keep_photos,
        )

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
        self.gallery.close()

    def enrol(
        self,
        person: str,
        *images: ImageSource,
        add: bool = False,
        replace: bool = False,
        access: Access | None = None,
        even_if_alike: bool = False,
    ) -> Enrolment:
        """Enrol a person from one image or more. All of them are kept, or none.

        Args:
            person: Name of 1 to 128 printable characters; kept in the normal form NFC.
            images: Each of them becomes a template: image files by their path, content or an open file,
                Pillow images, or uint8 pixels (height, width, 3) in RGB or (height, width) grey.
            add: Add to the templates of somebody enrolled.
            replace: Put these in the place of the former ones.
            access: When they may come in, as `Gallery.set_access` takes it; None: always, or as before.
            even_if_alike: Enrol them though they would be taken for somebody else who is enrolled.

        Raises:
            InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled``, ``too_many_templates``,
                ``fits_another`` or ``already_known`` (see `check_fit`), ``no_content``, or another fault of an image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        person = new_name(person)
        if not images:
            raise InputError(f"no image to enrol {person} from: name at least one", reason="wrong_use")
        if add and replace:
            raise InputError("--add and --replace exclude each other: choose one", reason="wrong_use")
        if len(images) > self.most_templates:
            message = (
                f"{len(images)} images for {person}: at most {self.most_templates} templates a person are possible"
            )
            raise InputError(message, reason="too_many_templates")
        embeddings, photos = [], []
        for image in images:
            # the photo that is kept is what the template was made from, also where a camera has gone on since
            picture = take_file(image) if self._keep_photos else take_picture(image)
            embeddings.append(self._encoder.embed_image(picture))
            if self._keep_photos:
                photos.append(picture.content)
        templates = np.stack(embeddings)
        for _ in range(TRIES):
            resembles = check_fit(
                self.gallery,
                self._manifest,
                self._encoder,
                person,
                templates,
                self._target_far,
                add=add,
                even_if_alike=even_if_alike,
                files=[os.fsdecode(image) if isinstance(image, str | os.PathLike) else None for image in images],
            )
            try:
                enrolment = self.gallery.enrol(
                    person,
                    templates,
                    add=add,
                    replace=replace,
                    most=self.most_templates,
                    access=access,
                    photos=photos,
                    resembles=resembles,
                    compared=True,
                )
            except ChangedError:
                continue
            return msgspec.structs.replace(enrolment, outlook=self.outlook())
        raise changing(self.gallery.path)

    def choose(self, images: Sequence[ImageSource]) -> Choice:
        """Which of many images to enrol somebody from: at most as many as there may be templates.

        Raises:
            InputError: No image can be used.
            MachineError: The disk or the runtime failed.
        """
        return choose(self._encoder, images, self.most_templates)

    def verify(self, person: str, image: ImageSource) -> Decision:
        """Decide 1:1 whether the image shows `person`, and record it.

        Args:
            person: The name.
            image: As for `enrol`.

        Raises:
            InputError: Reason ``not_enrolled``, ``bad_name``, ``uncalibrated``, or a fault of the image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        gallery, limits = self.gallery, self._limits
        number = gallery.read(lambda connection: gallery.find(connection, person))[0]
        wait = None
        if limits is not None:
            wait = gallery.read(lambda changed: refuse_verification(changed, limits, gallery.clock, number))
        probe = None if wait is not None else self._encoder.embed_image(image)

        def attempt() -> tuple[Comparison, Work]:
            number = gallery.read(lambda connection: gallery.find(connection, person))[0]
            own = self._mirror().index.templates_of(number)
            if not len(own):
                gallery.read_anew()  # forgotten this very moment, or put there without a row of the record
                raise ChangedError
            calibration = self._calibration(len(own))
            score = -math.inf
            if probe is not None:
                every = scores(probe, own, self._encoder.embedding.metric)
                score = float(join(every, np.zeros(len(own), dtype=np.int64), 1, calibration.rule)[0])
            found = Comparison((number, score), None, 1, calibration, self._target(calibration), self._encoder)
            return found, partial(verification, gallery, found, wait, limits)

        return settle_at_last(gallery, "verify", attempt)

    def identify(self, image: ImageSource) -> Decision:
        """Decide 1:N who the image shows, if anybody enrolled, and record it.

        Args:
            image: As for `enrol`.

        Raises:
            InputError: Reason ``uncalibrated``, or a fault of the image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        gallery, limits = self.gallery, self._limits
        wait = None
        if limits is not None:
            wait = gallery.read(lambda connection: refuse_identification(connection, limits, gallery.clock))
        probe = None if wait is not None else self._encoder.embed_image(image)

        def attempt() -> tuple[Comparison, Work]:
            found = self._compare(probe, self._mirror())
            return found, partial(identification, gallery, found, wait, limits)

        return settle_at_last(gallery, "identify", attempt)

    def challenge(self) -> "Watcher | Refusal":
        """A challenge for whoever stands before the camera, unless the door has to wait.

        It counts like a rejection of 1:N until it has passed: whoever fails it or breaks it off has used it up.

        Returns:
            What is fed with frames, in this thread, and records how it ends; or why there is none now.

        Raises:
            InputError: Reason ``no_faces`` or ``uncalibrated``.
            IntegrityError: The gallery is damaged.
            MachineError: The disk does not allow it.
        """
        from edge_oneshot_device.recognition.challenges import draw

        calibration = self._calibration(1)
        threshold = threshold_for(calibration, self._encoder.embedding.metric, self._target(calibration))
        return draw(self.gallery, self._encoder, threshold.value, self._limits)

    def people(self) -> list[Person]:
        """Everybody enrolled, by name.

        Raises:
            IntegrityError: The gallery is damaged.
            MachineError: The disk failed.
        """
        return self.gallery.people()

    def outlook(self) -> Outlook | None:
        """What the door does with everybody enrolled, in 1:N; None where the bundle is uncalibrated for them.

        Raises:
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk failed.
        """
        return outlook_of(self.gallery, self._manifest, self._encoder, self._target_far)

    def forget(self, person: str) -> Enrolment:
        """Delete a person and all of their templates.

        Raises:
            InputError: Reason ``not_enrolled`` or ``bad_name``.
            MachineError: The disk failed.
        """
        return self.gallery.forget(person)

    def unlock(self, person: str) -> Unlocked:
        """Let a person try 1:1 again at once, after too many failures.

        Raises:
            InputError: Reason ``not_enrolled`` or ``bad_name``.
            MachineError: The disk failed.
        """
        gallery = self.gallery

        def work(connection: sqlite3.Connection) -> Unlocked:
            number = gallery.find(connection, person)[0]
            failures = unlock(connection, number)
            gallery.append_audit(connection, "unlocked", number, {"failures": failures})
            return Unlocked(person_name(person), failures)

        return gallery.change(work)

    def _mirror(self) -> Mirror:
        return self.gallery.mirror(self._encoder.embedding.metric, self._manifest.rule)

    def _compare(self, probe: NDArray[np.float32] | None, enrolled: Mirror) -> Comparison:
        """Everybody compared with a probe; without one, what there is to compare with."""
        calibration = self._calibration(enrolled.most, enrolled.fewest)
        best, runner_up, *_ = [*([] if probe is None else enrolled.index.search(probe)), None, None]
        people = enrolled.index.people
        return Comparison(best, runner_up, people, calibration, self._target(calibration), self._encoder)

    def _calibration(self, templates: int, fewest: int | None = None) -> Calibration:
        return calibration_for(self._manifest, self._encoder.variant, templates, fewest)

    def _target(self, calibration: Calibration) -> float:
        return calibration.target_far if self._target_far is None else self._target_far
