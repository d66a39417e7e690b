"""The package as a whole: its public names, and that a light import stays light."""

import subprocess
import sys

import pytest

import edge_oneshot_device


def test_the_public_names_are_sorted_and_all_there():
    assert edge_oneshot_device.__all__ == sorted(edge_oneshot_device.__all__)
    for name in edge_oneshot_device.__all__:
        assert getattr(edge_oneshot_device, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'edge_oneshot_device' has no attribute 'Nothing'"):
        edge_oneshot_device.Nothing  # noqa: B018


def test_errors_manifest_bundle_and_console_need_neither_numpy_nor_a_runtime():
    code = (
        "import sys\n"
        "from edge_oneshot_device import Bundle, DeviceError, console, errors, files\n"
        "from edge_oneshot_device.bundle import codec, manifest\n"
        "heavy = {'numpy', 'PIL', 'ai_edge_litert', 'onnxruntime', 'tflite_runtime', 'tensorflow', 'sqlite3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "[]\n"


def test_an_encoder_needs_only_the_runtime_it_uses(make_bundle):
    code = (
        "import sys\n"
        "from edge_oneshot_device import Bundle, Encoder\n"
        "Encoder.open(Bundle.open(sys.argv[1]))\n"
        "heavy = {'onnxruntime', 'tflite_runtime', 'tensorflow', 'keras', 'scipy', 'sklearn', 'cv2', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(make_bundle())]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("[]\n", "")
