"""What `overhead.py` starts beside the device's program: the same libraries, models and work without any safeguard."""

import contextlib
import importlib
import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

templates, photo, database, modules, rgb, model, *others = sys.argv[1:]
for module in json.loads(Path(modules).read_bytes()):
    with contextlib.suppress(Exception):
        importlib.import_module(module)

interpreter = Interpreter(model_content=Path(model).read_bytes(), num_threads=1)
interpreter.allocate_tensors()
for other in others:
    path, height, width = other.rsplit(":", 2)
    more = Interpreter(model_content=Path(path).read_bytes(), num_threads=1)
    more.resize_tensor_input(more.get_input_details()[0]["index"], (1, int(height), int(width), 3))
    more.allocate_tensors()
    more.invoke()
given, told = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
enrolled = np.load(templates)
connection = sqlite3.connect(database, isolation_level=None)
connection.execute("PRAGMA synchronous = EXTRA")
image = Image.open(photo).convert("RGB" if rgb == "1" else "L").resize(tuple(given["shape"][[2, 1]]))
scale, zero = given["quantization"]
values = np.asarray(image, np.float32).reshape(given["shape"]) / 255.0
interpreter.set_tensor(given["index"], np.clip(values / (scale or 1.0) + zero, -128, 127).astype(given["dtype"]))
interpreter.invoke()
scale, zero = told["quantization"]
probe = (interpreter.get_tensor(told["index"])[0].astype(np.float32) - zero) * (scale or 1.0)
best = int((enrolled @ probe).argmax())
connection.execute("INSERT INTO audit (detail, mac) VALUES (?, ?)", ("x" * 250, bytes(32)))
print(json.dumps({"person": best}))
