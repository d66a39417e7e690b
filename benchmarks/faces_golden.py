"""What dlib answers to the chips of the parity check: edge_oneshot/faces/golden.json.

pip install dlib-bin; python benchmarks/faces_golden.py
"""

import json
from importlib import util
from pathlib import Path

import dlib

from edge_oneshot.faces.parity import parity_chips
from edge_oneshot_device.files import write_atomically

OUT = Path(__file__).parents[1] / "edge_oneshot" / "faces" / "golden.json"

models = Path(util.find_spec("face_recognition_models").submodule_search_locations[0]) / "models"
net = dlib.face_recognition_model_v1(str(models / "dlib_face_recognition_resnet_model_v1.dat"))
golden = [[round(value, 6) for value in net.compute_face_descriptor(chip.copy())] for chip in parity_chips()]
lines = ",\n".join(json.dumps(vector) for vector in golden)
write_atomically(OUT, f"[\n{lines}\n]\n".encode())
