"""The search of a photo, with a net that knows where the faces are and reads in the pixels what it is shown."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from edge_oneshot_device.bundle.face_section import FaceModel, FacePoint, FaceSection
from edge_oneshot_device.errors import InputError
from edge_oneshot_device.faces import detection, finding, interpreter
from edge_oneshot_device.faces.detection import STEP, Detection
from edge_oneshot_device.faces.finding import FaceFinder
from tests.raising import raises

PLACES = np.array([(38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2)])  # of 112
SEEN = (7.0, 130.0)  # pixels between the eyes of a face that the net sees


def model(name, kind="yunet"):
    return FaceModel(file=f"faces/{name}.tflite", sha256="0" * 64, kind=kind, size=320, min_score=0.8)


FACE = FaceSection(
    finder=model("finder"),
    mesh=model("mesh", "facemesh"),
    max_overlap=0.3,
    template=tuple(FacePoint(point=number, x=x / 112, y=y / 112) for number, (x, y) in enumerate(PLACES)),
    min_eye_distance=20.0,
)


def picture(width, height):
    """A photo whose colours say where a pixel is, in sixteenths of its sides; blue marks what lies inside."""
    rows, columns = np.indices((height, width), np.float32)
    parts = columns / width * 240, rows / height * 240, np.full_like(rows, 255)
    return Image.fromarray(np.stack([np.rint(part) for part in parts], axis=-1).astype(np.uint8))


def face_at(x, y, eyes, turn=0.0):
    """The five points of a face with its nose at a place, by the distance between its eyes and its turn in degrees."""
    spin = np.exp(1j * np.radians(turn))
    own = (PLACES - PLACES[2]) / 35.2 * eyes @ np.array([1, 1j]) * spin
    return np.column_stack([own.real + x, own.imag + y])


class KnowingNet:
    """Sees the faces of a photo that are upright in its input and neither too small nor too large.

    Of a tilt its points follow a share.
    """

    def __init__(self, size, faces, scores=None):
        self.size, self.faces, self.shapes, self.follows = size, faces, [], 1.0
        self.scores = scores or [0.95] * len(faces)

    def detect(self, pixels, min_score):
        assert pixels.shape[0] % STEP == pixels.shape[1] % STEP == 0
        self.shapes.append(pixels.shape[:2])
        every = max(max(pixels.shape) // 100, 1)
        rows, columns = (every * at for at in np.nonzero(pixels[::every, ::every, 2] > 250))
        if len(rows) < 100:
            return []
        terms = np.column_stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
        places = pixels[rows, columns, :2] / 240 * self.size
        matrix = np.linalg.lstsq(terms, places, rcond=None)[0]
        found = []
        for points, score in zip(self.faces, self.scores, strict=True):
            own = (points - matrix[2]) @ np.linalg.inv(matrix[:2])
            across, down = own[1] - own[0]
            distance = np.hypot(across, down)
            inside = ((own > 0) & (own < pixels.shape[1::-1])).all()
            if (
                score >= min_score
                and inside
                and SEEN[0] <= distance <= SEEN[1]
                and across > 0
                and abs(down) < 0.5 * distance
            ):
                middle = own.mean(axis=0)
                back = (self.follows - 1.0) * np.arctan2(down, across)
                own = (own - middle) @ np.array([(np.cos(back), np.sin(back)), (-np.sin(back), np.cos(back))]) + middle
                box = np.stack([middle - distance, middle + distance])
                found.append(Detection(score, box, own))
        return sorted(found, key=lambda one: -one.score)


@pytest.fixture
def finder_of(monkeypatch):
    """A finder with a net that knows these faces of a photo."""

    def make(size, faces, scores=None):
        net = KnowingNet(size, faces, scores)
        monkeypatch.setattr(finding, "Detector", lambda *_, **__: net)
        section = SimpleNamespace(width=112, height=112)
        return FaceFinder({"faces/finder.tflite": b""}, section, FACE), net

    return make


@pytest.mark.parametrize("size", [(150, 150), (640, 480), (1280, 720), (1920, 1088), (2560, 1440), (4000, 3000)])
def test_a_face_of_any_size_is_found_anywhere_once(finder_of, size):
    rng = np.random.default_rng(0)
    photo = picture(*size)
    for eyes in (20, 32, 57, 100, 160, 250, 400, 800, 1200):
        if 2.4 * eyes > min(size):
            break
        x, y = rng.uniform((1.2 * eyes, 1.2 * eyes), np.array(size) - 1.2 * eyes)
        finder, _ = finder_of(size, [face_at(x, y, eyes)])
        (face,) = finder.find(photo)
        assert face.detection.points == pytest.approx(face_at(x, y, eyes), abs=0.1 * eyes)
        assert face.detection.eye_distance == pytest.approx(eyes, rel=0.1)


def test_on_the_seam_of_tiles_a_face_is_found_once(finder_of):
    size = (4000, 3000)
    photo = picture(*size)
    for x, y in ((2000, 1500), (1376, 1372), (2128, 700), (2624, 1628)):
        finder, net = finder_of(size, [face_at(x, y, 40)])
        assert len(finder.find(photo)) == 1
        assert max(max(shape) for shape in net.shapes) <= 1024


def test_people_side_by_side_are_counted(finder_of):
    size = (1920, 1080)
    for count in (2, 4):
        faces = [face_at(300 + 400 * number, 500, 90) for number in range(count)]
        finder, _ = finder_of(size, faces)
        assert len(finder.find(picture(*size))) == count
        with raises(InputError, match=f"shows {count} faces", reason="several_faces"):
            finder.chip(picture(*size))


def test_somebody_far_behind_does_not_count_and_alone_is_too_small(finder_of):
    size = (640, 480)
    near, far = face_at(200, 240, 60), face_at(500, 100, 17)
    finder, _ = finder_of(size, [near, far])
    assert len(finder.find(picture(*size))) == 2
    assert finder.chip(picture(*size)).shape == (112, 112, 3)
    finder, _ = finder_of(size, [far])
    with raises(InputError, match=r"too small: 1\d pixels between the eyes, 20 are", reason="face_too_small"):
        finder.chip(picture(*size))


def test_a_crowd_is_looked_at_face_by_face_but_no_more_than_twenty(finder_of):
    size = (1920, 1080)
    faces = [face_at(100 + 150 * (n % 12), 150 + 300 * (n // 12), 40) for n in range(36)]
    finder, net = finder_of(size, faces, np.linspace(0.93, 0.99, 36).tolist())
    found = finder.find(picture(*size))
    assert len(found) == net.shapes.count((320, 320)) == 20
    assert min(face.detection.score for face in found) > 0.95


@pytest.mark.parametrize("reach", [1.0, 1e3, 1e9, 1e38])
def test_whatever_the_net_says_no_more_than_twenty_faces_are_returned(monkeypatch, reach):
    def see(pixels):
        cells = sum(pixels.shape[0] // side * (pixels.shape[1] // side) for side in (8, 16, 32))
        raw = np.random.default_rng(cells).uniform(-reach, reach, (cells, 16)).astype(np.float32)
        raw[:, :2] = 0.93
        return (raw,)

    monkeypatch.setattr(detection, "FaceNet", lambda *_, **__: SimpleNamespace(run=see))
    finder = FaceFinder({"faces/finder.tflite": b""}, SimpleNamespace(width=112, height=112), FACE)
    assert len(finder.find(picture(640, 480))) <= 20


def test_a_tilted_head_is_set_upright(finder_of):
    size = (640, 480)
    finder, _ = finder_of(size, [face_at(300, 240, 60, turn=20)])
    chip = finder.chip(picture(*size)).astype(float)
    for place, (x, y) in zip(PLACES, face_at(300, 240, 60, turn=20), strict=True):
        column, row = place.astype(int)
        assert chip[row, column, :2] / 240 * size == pytest.approx((x, y), abs=6)


def test_a_tilted_head_is_looked_at_once_more_than_a_level_one(finder_of):
    def found(turn):
        finder, net = finder_of((640, 480), [face_at(300, 240, 60, turn)])
        net.follows = 0.5
        (face,) = finder.find(picture(640, 480))
        across, down = face.detection.points[1] - face.detection.points[0]
        return np.degrees(np.arctan2(down, across)), net.shapes.count((320, 320))

    assert found(0) == (pytest.approx(0, abs=1), 1)
    assert found(28) == (pytest.approx(28 * (1 - 0.5**3), abs=1), 2)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_photo_that_is_not_upright_has_no_face_and_is_refused_by_name(finder_of, turn):
    size = (640, 480)
    finder, net = finder_of(size, [face_at(300, 240, 60, turn=turn)])
    assert finder.find(picture(*size)) == []
    with raises(InputError, match="on its side or upside down; turn the picture", reason="photo_turned"):
        finder.chip(picture(*size))
    net.faces = []
    net.scores = []
    with raises(InputError, match="shows no face", reason="no_face"):
        finder.chip(picture(*size))


def test_a_weak_face_that_is_clearer_upside_down_is_no_face(finder_of):
    size = (640, 480)
    upright, turned = face_at(300, 240, 60), face_at(300, 240, 60, turn=180)
    finder, net = finder_of(size, [upright, turned], [0.85, 0.9])
    assert finder.find(picture(*size)) == []
    with raises(InputError, reason="photo_turned"):
        finder.chip(picture(*size))
    net.scores = [0.85, 0.84]
    assert len(finder.find(picture(*size))) == 1
    net.scores = [0.93, 0.94]  # that clear an upright face is not looked at from other sides
    assert len(finder.find(picture(*size))) == 1


def test_a_weak_face_in_a_photo_that_is_turned_is_refused(finder_of):
    size = (640, 480)
    finder, _ = finder_of(size, [face_at(100, 100, 40), face_at(400, 240, 60, turn=90)], [0.85, 0.95])
    with raises(InputError, reason="photo_turned"):
        finder.chip(picture(*size))


def test_what_the_closer_look_does_not_see_is_no_face(finder_of, monkeypatch):
    size = (640, 480)
    finder, net = finder_of(size, [face_at(300, 240, 60)])
    whole = net.detect
    monkeypatch.setattr(
        net, "detect", lambda shown, least: [] if shown.shape[:2] == (320, 320) else whole(shown, least)
    )
    assert finder.find(picture(*size)) == []
    net.scores = [0.79]
    monkeypatch.setattr(net, "detect", whole)
    assert finder.find(picture(*size)) == []
    net.scores = [0.8]
    assert len(finder.find(picture(*size))) == 1


def test_the_nets_of_an_earlier_release_are_refused_by_name():
    former = FaceSection(
        finder=model("finder", "blazeface-full"),
        closer=model("closer", "blazeface-short"),
        mesh=FACE.mesh,
        max_overlap=0.3,
        template=FACE.template,
        min_eye_distance=20.0,
    )
    with raises(InputError, match="nets of an earlier release; export it again", reason="former_faces"):
        FaceFinder({}, SimpleNamespace(width=112, height=112), former)


def test_the_mesh_is_not_opened_before_it_is_asked_for(finder_of):
    finder, _ = finder_of((640, 480), [face_at(300, 240, 60)])
    photo = picture(640, 480)
    (face,) = finder.find(photo)
    with pytest.raises(KeyError, match=r"faces/mesh\.tflite"):  # these files hold none
        finder.mesh(photo, face)


class Sized:
    """An interpreter whose output is its input's size."""

    opened = 0

    def __init__(self):
        Sized.opened += 1
        self.values = np.zeros((1, 32, 32, 3), np.float32)

    def get_input_details(self):
        return [{"shape": self.values.shape, "dtype": np.float32, "index": 0}]

    def get_output_details(self):
        return [{"shape": (1, 1), "dtype": np.float32, "index": 1}]

    def resize_tensor_input(self, _index, shape):
        self.values = np.zeros(shape, np.float32)

    def allocate_tensors(self):
        pass

    def tensor(self, _index):
        return lambda: self.values

    def invoke(self):
        pass

    def get_tensor(self, _index):
        return np.array([[self.values.size]], np.float32)


def test_the_interpreters_of_the_sizes_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(interpreter, "open_tflite", lambda *_: Sized())
    Sized.opened = 0
    net = interpreter.FaceNet(b"", "x", ((1, 32, 32, 3), (1, 1)), white=255.0, runtime="litert", threads=1)
    for _ in range(3):
        for side in (32, 64, 96, 128):
            (size,) = net.run(np.zeros((side, side, 3), np.uint8))
            assert size[0] == 3 * side**2
    assert Sized.opened == 4
    for side in range(160, 1000, 32):
        net.run(np.zeros((side, side, 3), np.uint8))
    assert (992, 992, 3) in net._sized
    assert (960, 960, 3) not in net._sized  # both are more than is kept
