"""The text of `--help` for each command beside its options: what it does, with examples."""

from typing import Final

from edge_oneshot_device.console import HelpText

GROUPS: Final = {
    "try it": ("demo",),
    "get an encoder": ("train", "export"),
    "calibrate and evaluate it": ("calibrate", "evaluate", "inspect"),
    "put it on a device": ("preflight", "keygen", "deploy"),
    "type less": ("completion",),
}
"""The commands, grouped by task."""

HELP: Final = {
    "demo": HelpText(
        "Run every stage on generated drawings: train, export, evaluate, use the bundle on a\n"
        "device. Writes a report, demo/report.html. With --speech, on spoken words instead, with\n"
        "demo/speech/report.html. With --door, show a door at work instead: a face is enrolled\n"
        "from one photo, and a composed scene takes the place of the camera.",
        ("demo", "demo --out /tmp/demo --seed 1", "demo --speech", "demo --door"),
    ),
    "train": HelpText(
        "Train a siamese encoder on drawings or photos. The run folder keeps the encoder and\n"
        "its checkpoints, for --resume and export.",
        ("train omniglot --out runs/mine --minutes 20", "train people/ --out runs/faces --start faces"),
    ),
    "export": HelpText(
        "Quantize an encoder, measure the quantization error, choose thresholds on images that\n"
        "it was not trained on, and write all of it to one file, the bundle.",
        (
            "export runs/mine --out mine.oneshot",
            "export --pretrained base --out omniglot.oneshot",
            "export --model mine.tflite --data people/ --out mine.oneshot",
        ),
    ),
    "calibrate": HelpText(
        "Choose a bundle's thresholds again, from images of your own people. The encoder stays\n"
        "the same, so that nobody has to enrol again.",
        ("calibrate mine.oneshot --data colleagues/ --out ours.oneshot --target-far 0.001",),
    ),
    "evaluate": HelpText(
        "Evaluate a bundle with the device's own runtime, on data that it was not trained on.",
        (
            "evaluate omniglot.oneshot --data omniglot --protocol lake",
            "evaluate mine.oneshot --data people/ --protocol verification --figure roc.svg",
        ),
    ),
    "preflight": HelpText("Predict what the Edge TPU compiler does with a .tflite file.", ("preflight model.tflite",)),
    "inspect": HelpText(
        "Show what a bundle holds, or how two bundles differ and whether templates stay valid.",
        ("inspect mine.oneshot", "inspect mine.oneshot ours.oneshot"),
    ),
    "keygen": HelpText(
        "Make a key pair that signs bundles: the private key for export --sign, the public key\n"
        "for edge-oneshot-device init --trust.",
        ("keygen --out maker.key",),
    ),
    "deploy": HelpText(
        "Build an archive that installs a bundle on a device without a network. With --host,\ninstall it there.",
        ("deploy mine.oneshot", "deploy mine.oneshot --host pi@door --trust maker.key.pub"),
    ),
    "completion": HelpText(
        "Print a script for bash or zsh that completes the commands, options and file names of\n"
        "both programs. A line in ~/.bashrc or ~/.zshrc loads it:\n"
        '  eval "$(edge-oneshot completion bash)"',
        ("completion bash", "completion zsh"),
    ),
}
