"""What `--help` says of each command besides its options: what it does, and examples. Imported for that alone."""

from typing import Final

from edge_oneshot_device.console import HelpText

GROUPS: Final = {
    "set the door up": ("init", "doctor", "rollback"),
    "say who may come in, and when": ("enrol", "access", "people", "forget", "unlock"),
    "recognize": ("identify", "verify"),
    "look after the audit trail, keys and backups": ("audit", "backup", "restore", "rotate-key"),
    "look at a bundle": ("inspect", "bench"),
}
"""The commands by what a person wants to do."""

HELP: Final = {
    "init": HelpText(
        "Check a bundle's digests, run its self-test on this machine and put it in use. The\n"
        "first init makes the gallery and its key. It says how many strangers get in and how\n"
        "many right attempts are turned away; --target-far moves the one against the other.",
        ("init door.oneshot --target-far 0.001", "init door.oneshot --trust maker.key.pub --keep-photos"),
    ),
    "rollback": HelpText(
        "Put in use what was in use before the last init, with the templates of then. Called\n"
        "again, it goes forth again.",
        ("rollback",),
    ),
    "enrol": HelpText(
        "Enrol a person from one image or more, five at most; all of a call are kept, or none.\n"
        "Refused is an image that shows nothing, one that is nearer to somebody else, and a\n"
        "person who would be taken for somebody who is enrolled already.",
        (
            "enrol ada ada.jpg",
            "enrol ada ada-2.jpg ada-3.jpg --add",
            "enrol 'Ada L.' ada.jpg --valid-until 2026-12-31 --hours 'mon-fri 07:00-19:00'",
            "enrol --folder staff/",
        ),
    ),
    "access": HelpText(
        "Change when a person may come in. What is not named stays as it was; --always takes\n"
        "all limits away. Hours are those of this machine's time zone, which doctor shows.",
        (
            "access ada --hours 'mon-fri 07:00-19:00, sat 08:00-12:00'",
            "access ada --valid-until 2026-12-31",
            "access ada --always",
        ),
    ),
    "verify": HelpText(
        "Decide whether an image shows the person named (1:1). After five failures in a row\nthat person has to wait.",
        ("verify ada probe.jpg", "verify ada probe.jpg --scores"),
    ),
    "identify": HelpText(
        "Decide who an image shows, if anybody enrolled (1:N). After ten rejections in a\n"
        "minute everybody has to wait.",
        ("identify probe.jpg", "identify probe.jpg --json"),
    ),
    "people": HelpText(
        "List everybody enrolled; or write them to a sealed file for another device with the\n"
        "same encoder; or take them from one.",
        ("people", "people export staff.people --transfer-key transfer.key", "people import staff.people"),
    ),
    "forget": HelpText("Delete a person. Nothing of them is left in the gallery's file.", ("forget ada",)),
    "unlock": HelpText("Let a person verify again at once, after too many failures.", ("unlock ada",)),
    "audit": HelpText(
        "Show the audit trail of every decision and change; or verify its whole chain; or print\n"
        "its end, to be kept elsewhere.",
        ("audit --last 50", "audit --check", "audit --head", "audit --check --against 1234:9f..."),
    ),
    "backup": HelpText(
        "Copy the gallery while it is in use. The copy opens with today's key.", ("backup /mnt/door.db",)
    ),
    "restore": HelpText(
        "Put a backup in the place of the gallery, after a look at the whole of it. Forget\n"
        "again whoever was forgotten since.",
        ("restore /mnt/door.db", "restore /mnt/door.db --backup-key old.key"),
    ),
    "rotate-key": HelpText(
        "Seal everything with a new key; or delete the keys of before, which older backups need.",
        ("rotate-key", "rotate-key --drop-former"),
    ),
    "doctor": HelpText(
        "Look at everything that the door needs: bundle, settings, key, gallery, audit,\n"
        "clock, time zone, disk, runtimes. It ends with the code of the first fault.",
        ("doctor", "doctor --json"),
    ),
    "bench": HelpText(
        "Measure what a bundle costs on this machine; or compare two such runs, with exit\n"
        "code 1 where they cannot be.",
        ("bench door.oneshot --runs 500 --json", "bench compare before.json after.json"),
    ),
    "inspect": HelpText(
        "Show what a bundle holds; or what two differ in, and whether templates carry over.",
        ("inspect door.oneshot", "inspect door.oneshot new.oneshot"),
    ),
}
