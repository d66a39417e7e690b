"""What `--help` says of each command besides its options: a summary, a description and examples."""

from typing import Final

from edge_oneshot_device.console import HelpText

GROUPS: Final = {
    "set up the door": ("init", "doctor", "rollback"),
    "manage people and their access": ("enrol", "access", "people", "lookalikes", "forget", "unlock", "pin"),
    "recognize": ("identify", "verify"),
    "run the door": ("door", "run"),
    "look after the audit trail, keys and backups": ("audit", "backup", "restore", "rotate-key"),
    "look at a bundle": ("inspect", "bench"),
}
"""The commands by what the user wants to do."""

SUMMARIES: Final = {
    "init": "check a bundle, run its self-test and put it in use",
    "rollback": "put the previous bundle in use, with its templates",
    "enrol": "enrol a person from one or more images or recordings",
    "access": "change when a person may come in",
    "verify": "decide whether an image or recording is of a person (1:1)",
    "identify": "decide of whom an image or recording is (1:N)",
    "door": "write the door's configuration, try it, or lock the door",
    "run": "run the door: camera, decision, lock",
    "people": "list the people enrolled, or move them to another device",
    "lookalikes": "list people enrolled who may be accepted as each other",
    "forget": "delete a person",
    "unlock": "let a person verify again after too many failures",
    "pin": "set a person's PIN for the keypad, or remove it",
    "audit": "show the audit trail of decisions and changes",
    "backup": "copy the gallery while it is in use",
    "restore": "replace the gallery with a backup",
    "rotate-key": "seal the gallery with a new key",
    "doctor": "check everything that the door needs",
    "bench": "measure a bundle on this machine, or compare two runs",
    "inspect": "show what a bundle holds, or what two bundles differ in",
}

HELP: Final = {
    "init": HelpText(
        "Check a bundle's digests, run its self-test on this machine and put it in use. The\n"
        "first init creates the gallery and its key. It reports how many strangers get in and\n"
        "how many genuine attempts are rejected; --target-far trades one for the other.",
        ("init door.oneshot --target-far 0.001", "init door.oneshot --trust maker.key.pub --keep-photos"),
    ),
    "rollback": HelpText(
        "Put in use what was in use before the last init, with its templates. Called again, it\n"
        "puts the newer bundle in use again.",
        ("rollback",),
    ),
    "enrol": HelpText(
        "Enrol a person from one to five images, or recordings with a bundle of speech. Either\n"
        "all of a call are kept, or none. One without content is refused, and so is one that is\n"
        "nearer to another person, and a person who would be taken for somebody enrolled.",
        (
            "enrol ada ada.jpg",
            "enrol ada ada-2.jpg ada-3.jpg --add",
            "enrol 'Ada L.' ada.jpg --valid-until 2026-12-31 --hours 'mon-fri 07:00-19:00'",
            "enrol --folder staff/",
            "enrol ada --microphone",
        ),
    ),
    "access": HelpText(
        "Change when a person may come in. Limits that you do not give stay unchanged; --always\n"
        "removes all of them. Hours are in this machine's time zone, which doctor shows.",
        (
            "access ada --hours 'mon-fri 07:00-19:00, sat 08:00-12:00'",
            "access ada --valid-until 2026-12-31",
            "access ada --always",
        ),
    ),
    "verify": HelpText(
        "Decide whether an image shows the person named, or a recording is of their word (1:1).\n"
        "After five failures in a row that person has to wait.",
        ("verify ada probe.jpg", "verify ada probe.jpg --scores", "verify ada --microphone"),
    ),
    "identify": HelpText(
        "Decide who of the people enrolled an image shows, or whose word a recording is of, or\n"
        "that it is nobody's (1:N). After ten rejections in a minute everybody has to wait.",
        ("identify probe.jpg", "identify probe.jpg --json", "identify --microphone"),
    ),
    "door": HelpText(
        "init writes a configuration in which every key is a comment with its default. check\n"
        "tries camera, microphone, lock, keypad and broker; it never opens. lock locks the door at\n"
        "once and is what the service does after everything else has ended.",
        ("door init --config door.toml", "door check --config door.toml", "door lock --config door.toml"),
    ),
    "run": HelpText(
        "Run the door until Ctrl-C or SIGTERM: find faces in front of the camera, join the best\n"
        "frames of each to one decision, ask for the second factor, and open the lock. One line\n"
        "tells of each change. The lock is closed at the start, at the end, and after any fault.",
        ("run --config door.toml", "run --config door.toml --show", "run --demo"),
    ),
    "people": HelpText(
        "List the people enrolled, or write them to a sealed file for another device with the\n"
        "same encoder, or read them from one.",
        ("people", "people export staff.people --transfer-key transfer.key", "people import staff.people"),
    ),
    "lookalikes": HelpText(
        "List the pairs of people enrolled who are so alike that verify would accept the one as\n"
        "the other at the target FAR in use, and which of them identify would confuse too, with\n"
        "what to do about them. The exit code is 1 where there are any.",
        ("lookalikes", "lookalikes --limit 100 --json"),
    ),
    "forget": HelpText("Delete a person and everything that the gallery's file holds of them.", ("forget ada",)),
    "unlock": HelpText("Let a person verify again at once, after too many failures.", ("unlock ada",)),
    "pin": HelpText(
        "Set a person's PIN for the door's keypad, 4 to 12 digits, typed twice or read from\n"
        "stdin. It prints the number that the person types first where a PIN opens without a\n"
        "face; that takes 6 digits or more.",
        ("pin ada", "pin ada --remove"),
    ),
    "audit": HelpText(
        "Show the audit trail of every decision and change, verify the whole of it, or print\n"
        "its head, to be kept elsewhere.",
        ("audit --last 50", "audit --check", "audit --head", "audit --check --against 1234:9f..."),
    ),
    "backup": HelpText(
        "Copy the gallery while it is in use. The copy opens with the current key.", ("backup /mnt/door.db",)
    ),
    "restore": HelpText(
        "Check the whole of a backup and replace the gallery with it. People who were forgotten\n"
        "after the backup are in it: forget them again.",
        ("restore /mnt/door.db", "restore /mnt/door.db --backup-key old.key"),
    ),
    "rotate-key": HelpText(
        "Seal everything with a new key, or delete former keys, which older backups need.",
        ("rotate-key", "rotate-key --drop-former"),
    ),
    "doctor": HelpText(
        "Check everything that the door needs: bundle, settings, key, gallery, audit trail,\n"
        "clock, time zone, disk, runtimes, temperature; for speech what reads recordings; with a\n"
        "door's configuration also camera, microphone, GPIOs, keypad, secrets, packages and\n"
        "broker, which nothing is done with. The exit code is that of the first fault.",
        ("doctor", "doctor --config door.toml", "doctor --json"),
    ),
    "bench": HelpText(
        "Measure the latency and memory of a bundle on this machine, or compare two such runs:\n"
        "the exit code is 1 where they cannot be compared.",
        ("bench door.oneshot --runs 500 --json", "bench compare before.json after.json"),
    ),
    "inspect": HelpText(
        "Show what a bundle holds, or what two bundles differ in and whether templates of the\n"
        "one can be used with the other.",
        ("inspect door.oneshot", "inspect door.oneshot new.oneshot"),
    ),
}
