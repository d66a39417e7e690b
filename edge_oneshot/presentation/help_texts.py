"""What `--help` says of each command besides its options: what it does, and examples."""

from typing import Final

from edge_oneshot_device.console import HelpText

GROUPS: Final = {
    "try it": ("demo",),
    "get an encoder": ("train", "export"),
    "fit it to your people, and judge it": ("calibrate", "evaluate", "inspect"),
    "bring it to a device": ("preflight", "keygen", "deploy"),
    "type less": ("completion",),
}
"""The commands by what a person wants to do."""

HELP: Final = {
    "demo": HelpText(
        "Go the whole way on embedded data: train, export, judge, use the bundle as a device\n"
        "does. Ends with a report, demo/report.html.",
        ("demo", "demo --out /tmp/demo --seed 1"),
    ),
    "train": HelpText(
        "Train a siamese encoder on drawings or photos, and keep it with its checkpoints in a\n"
        "folder, the run, for export.",
        ("train omniglot --out runs/mine --minutes 20", "train people/ --out runs/faces --start faces"),
    ),
    "export": HelpText(
        "Quantize an encoder, measure what that costs, choose thresholds on images that it\n"
        "never saw, and write all of it as one file, the bundle.",
        (
            "export runs/mine --out mine.oneshot",
            "export --pretrained base --out omniglot.oneshot",
            "export --model mine.tflite --data people/ --out mine.oneshot",
        ),
    ),
    "calibrate": HelpText(
        "Choose a bundle's thresholds anew from images of your own people. The encoder stays,\n"
        "so that nobody has to enrol again.",
        ("calibrate mine.oneshot --data colleagues/ --out ours.oneshot --target-far 0.001",),
    ),
    "evaluate": HelpText(
        "Judge a bundle through the device's own runtime, on data that it never saw.",
        (
            "evaluate omniglot.oneshot --data omniglot --protocol lake",
            "evaluate mine.oneshot --data people/ --protocol verification --figure roc.svg",
        ),
    ),
    "preflight": HelpText("Say what the Edge TPU compiler would do with a .tflite file.", ("preflight model.tflite",)),
    "inspect": HelpText(
        "Show what a bundle holds, or what two differ in and whether templates carry over.",
        ("inspect mine.oneshot", "inspect mine.oneshot ours.oneshot"),
    ),
    "keygen": HelpText(
        "Make a key that signs bundles: the private one for export --sign, the public one for\n"
        "edge-oneshot-device init --trust.",
        ("keygen --out maker.key",),
    ),
    "deploy": HelpText(
        "Build the archive that installs a bundle on a device without a network; with --host,\ninstall it there.",
        ("deploy mine.oneshot", "deploy mine.oneshot --host pi@door --trust maker.key.pub"),
    ),
    "completion": HelpText(
        "Print the script that has bash or zsh complete commands, options and names of files\n"
        "of both programs. A line in ~/.bashrc or ~/.zshrc reads it:\n"
        '  eval "$(edge-oneshot completion bash)"',
        ("completion bash", "completion zsh"),
    ),
}
