"""What dlib answers to the chips of the parity check: edge_oneshot/faces/golden.json.

pip install dlib-bin; python -m edge_oneshot.faces.make_golden
"""

import json
from importlib.metadata import distribution
from pathlib import Path

import dlib

from edge_oneshot.faces.parity import parity_chips
from edge_oneshot_device.files import write_atomically

OUT = Path(__file__).with_name("golden.json")

models = Path(str(distribution("face_recognition_models").locate_file("face_recognition_models/models")))
net = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
golden = [[round(value, 6) for value in net.compute_face_descriptor(chip.copy())] for chip in parity_chips()]
lines = ",\n".join(json.dumps(vector) for vector in golden)
write_atomically(OUT, f"[\n{lines}\n]\n".encode())
