"""Enrol, verify, identify: the encoder, the gallery and the calibration brought together."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_oneshot_device.bundle.manifest import Manifest
from edge_oneshot_device.encoder import Encoder
from edge_oneshot_device.encoding.sources import ImageSource, Picture, take_file, take_picture
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.gallery import audit, limits
from edge_oneshot_device.gallery.access import Access
from edge_oneshot_device.gallery.gallery import Gallery
from edge_oneshot_device.gallery.limits import Limits, Refusal
from edge_oneshot_device.gallery.people import Enrolment, Person, Unlocked, new_name, person_name
from edge_oneshot_device.gallery.roster import NewTemplates, act_of, find, reset_pin
from edge_oneshot_device.gallery.template_cache import TemplateCache
from edge_oneshot_device.gallery.transaction import TRIES, ChangedError, with_reserve
from edge_oneshot_device.matching.decision import Decision
from edge_oneshot_device.matching.thresholds import Outlook, threshold_for
from edge_oneshot_device.recognition.attempts import Attempt, decide_and_record, reject_changing
from edge_oneshot_device.recognition.choosing import Choice, choose
from edge_oneshot_device.recognition.comparing import check_probe, compare_with, compare_with_all
from edge_oneshot_device.recognition.enrolment import check_fit, most_templates
from edge_oneshot_device.recognition.lookalikes import LookAlikes, find_look_alikes
from edge_oneshot_device.recognition.outlook import outlook_of
from edge_oneshot_device.recognition.policy import Policy
from edge_oneshot_device.state.opening import open_installed

if TYPE_CHECKING:
    from edge_oneshot_device.liveness.watcher import Watcher

DEFAULT_LIMITS: Final = Limits()


class Recognizer:
    """Recognizes people, or whatever the bundle was trained on. A context manager, for one thread.

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
        limits: How often one may try; None: there is no limit, for benchmarks.
        keep_photos: Keep the images that people are enrolled from, sealed.

    Attributes:
        encoder: As given.
        gallery: Who is enrolled, and the audit trail.
        most_templates: How many templates a person may have: as many as the bundle is calibrated for.
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
        self.encoder = encoder
        self._policy = Policy(manifest, encoder, target_far)
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
            limits: How often one may try; None: there is no limit, for benchmarks. Unless limits are given, the rate of
                rejections is what `init` was told.

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

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the gallery; closing twice is fine."""
        self.gallery.close()

    def enrol(
        self,
        person: str,
        *images: ImageSource | Picture,
        add: bool = False,
        replace: bool = False,
        access: Access | None = None,
        even_if_alike: bool = False,
    ) -> Enrolment:
        """Enrol a person from one or more images. All of them are enrolled, or none. Each image is read once.

        Args:
            person: Name of 1 to 128 printable characters; kept in the normal form NFC.
            images: Each of them becomes a template: files of images, or of recordings where the bundle takes those, by
                path, content or an open file; Pillow images; uint8 pixels (height, width, 3) RGB or (height, width).
            add: Add to the templates of somebody enrolled.
            replace: Replace the templates of somebody enrolled.
            access: When they may come in, as `Gallery.set_access` takes it; None: always, or as before.
            even_if_alike: Enrol them although they would be taken for somebody else who is enrolled.

        Raises:
            InputError: Reason ``bad_name``, ``already_enrolled``, ``not_enrolled``, ``too_many_templates``,
                ``fits_another`` or ``already_known`` (see `check_fit`), ``no_content``, or another fault of an image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        person, kind = new_name(person), self.encoder.input.kind
        if not images:
            raise InputError(f"no {kind} to enrol {person} from: name at least one", reason="wrong_use")
        act = act_of(add=add, replace=replace)
        most = self.most_templates
        if len(images) > most:
            message = f"{len(images)} {kind}s for {person}: at most {most} templates a person are possible"
            raise InputError(message, reason="too_many_templates")
        templates, photos = self._embed(images)
        new = NewTemplates(person=person, templates=templates, act=act, most=most, access=access, photos=photos)
        files = [_file_of(image) for image in images]
        for _ in range(TRIES):
            cache = self._cache()
            resembles = check_fit(self.gallery, self._policy, new, even_if_alike=even_if_alike, files=files)
            try:
                enrolment = self.gallery.enrol_templates(new, compared=cache)
            except ChangedError:
                continue
            return msgspec.structs.replace(enrolment, resembles=resembles, outlook=self.outlook())
        raise ChangedError(self.gallery.path)

    def choose(self, images: Sequence[ImageSource]) -> Choice:
        """Choose which of many images to enrol somebody from: at most as many as there may be templates.

        Raises:
            InputError: No image can be used.
            MachineError: The disk or the runtime failed.
        """
        return choose(self.encoder, images, self.most_templates)

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
        gallery, refusal = self.gallery, None
        with gallery.reading() as transaction:
            number = find(transaction, person)[0]
            if self._limits is not None:
                refusal = limits.refuse_verification(transaction, self._limits, number)
        probe = None if refusal else self.encoder.embed_image(image)
        attempt = None
        for _ in range(TRIES):
            cache = self._cache()
            compared = compare_with(gallery, self._policy, person, probe, cache)
            if compared is None:
                cache.clear()  # forgotten this very moment, or in the file without a row of the audit trail
                continue
            attempt = Attempt("verify", compared, cache, self._limits, refusal)
            with suppress(ChangedError):
                return decide_and_record(gallery, attempt)
        if attempt is None:
            raise ChangedError(gallery.path)
        return reject_changing(gallery, attempt)

    def identify(self, image: ImageSource) -> Decision:
        """Decide 1:N whom of those enrolled the image shows, if anybody, and record it.

        Args:
            image: As for `enrol`.

        Raises:
            InputError: Reason ``uncalibrated``, or a fault of the image.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        return self._identify(lambda: self.encoder.embed_image(image))

    def identify_probe(self, probe: NDArray[np.float32], frames: int) -> Decision:
        """`identify` for a probe that is there already, such as the mean of the embeddings of several frames.

        The threshold is that of single probes, see `edge_oneshot_device.door.approach.fuse`.

        Args:
            probe: float32 (d,); for ``cosine`` of length 1, as the mean of several frames of length 1 at most.
            frames: How many frames it is made from.

        Raises:
            InputError: ``bad_probe``: no such probe; ``uncalibrated``.
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk or the runtime failed.
        """
        check_probe(probe, frames, self.encoder.embedding)
        return self._identify(lambda: probe)

    def _identify(self, make_probe: Callable[[], NDArray[np.float32]]) -> Decision:
        """Decide 1:N; the probe is made unless the attempt is refused."""
        gallery, refusal = self.gallery, None
        if self._limits is not None:
            with gallery.reading() as transaction:
                refusal = limits.refuse_identification(transaction, self._limits)
        probe = None if refusal else make_probe()
        for _ in range(TRIES):
            cache = self._cache()
            attempt = Attempt("identify", compare_with_all(self._policy, probe, cache), cache, self._limits, refusal)
            with suppress(ChangedError):
                return decide_and_record(gallery, attempt)
        return reject_changing(gallery, attempt)

    def challenge(self) -> "Watcher | Refusal":
        """A challenge for the person at the camera, unless the door has to wait.

        It counts like a rejection of 1:N until it is passed, so that one that is failed or broken off stays counted.

        Returns:
            What takes the frames, in this thread, and records how the challenge ends; or why there is none now.

        Raises:
            InputError: Reason ``no_faces`` or ``uncalibrated``.
            IntegrityError: The gallery is damaged.
            MachineError: The disk does not allow it.
        """
        from edge_oneshot_device.recognition.challenges import draw

        return draw(self.gallery, self.encoder, self.least_score, self._limits)

    @property
    def least_score(self) -> float:
        """The threshold of 1:1 with one template: two looks at a face with a lower score show two people.

        Raises:
            InputError: Reason ``uncalibrated``.
        """
        calibration = self._policy.calibration(1)
        return threshold_for(calibration, self._policy.metric, self._policy.target(calibration)).value

    def people(self) -> list[Person]:
        """Everybody enrolled, by name.

        Raises:
            IntegrityError: The gallery is damaged.
            MachineError: The disk failed.
        """
        return self.gallery.people()

    def look_alikes(self, limit: int = 20, report: Callable[[int, int], None] | None = None) -> LookAlikes:
        """The people enrolled of whom one would be accepted as the other; arguments and errors: `find_look_alikes`."""
        return find_look_alikes(self.gallery, self._policy, limit, report)

    def outlook(self) -> Outlook | None:
        """The expected errors in 1:N with everybody enrolled; None where the bundle is not calibrated for them.

        Raises:
            IntegrityError: The gallery is damaged, or of another encoder.
            MachineError: The disk failed.
        """
        return outlook_of(self.gallery, self._policy)

    @property
    def limits(self) -> Limits | None:
        """How often one may try; None: there is no limit."""
        return self._limits

    def forget(self, person: str) -> Enrolment:
        """Delete a person and all of their templates.

        Raises:
            InputError: Reason ``not_enrolled`` or ``bad_name``.
            MachineError: The disk failed.
        """
        return self.gallery.forget(person)

    @with_reserve
    def unlock(self, person: str) -> Unlocked:
        """Let a person try 1:1 and the PIN again at once, after too many failures.

        Raises:
            InputError: Reason ``not_enrolled`` or ``bad_name``.
            MachineError: The disk failed.
        """
        with self.gallery.writing() as transaction:
            number = find(transaction, person)[0]
            failures = limits.unlock(transaction, number)
            pin_failures = reset_pin(transaction, number)
            audit.append(transaction, "unlocked", number, {"failures": failures, "pin_failures": pin_failures})
        return Unlocked(person_name(person), failures, pin_failures)

    def _cache(self) -> TemplateCache:
        return self.gallery.template_cache(self._policy.metric, self._policy.rule)

    def _embed(self, images: Sequence[ImageSource | Picture]) -> tuple[NDArray[np.float32], list[bytes]]:
        """The templates of images, and the photos to keep: each photo is exactly what its template was made from."""
        templates, photos = [], []
        for image in images:
            picture = take_file(image) if self._keep_photos else take_picture(image)
            templates.append(self.encoder.embed_image(picture))
            if self._keep_photos:
                photos.append(picture.content)
        return np.stack(templates), photos


def _file_of(image: ImageSource | Picture) -> str | None:
    """The file of an image, for errors; None for an image that is no file."""
    if isinstance(image, Picture):
        return image.name
    return os.fsdecode(image) if isinstance(image, str | os.PathLike) else None
