"""The schema of a gallery's file, as migrations from each version to the next."""

from typing import Final

from edge_oneshot_device.state_names import APPLICATION_ID

# Migration i brings a file from user_version i to i + 1. A released one is never edited: the schema of a file has to be
# what the migrations make, to the letter. `first_rows.write_first_rows` converts what the tables hold.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        """CREATE TABLE person (
             id INTEGER PRIMARY KEY,
             name TEXT NOT NULL UNIQUE,
             enrolled TEXT NOT NULL,
             fingerprint TEXT NOT NULL
           ) STRICT""",
        """CREATE TABLE template (
             id INTEGER PRIMARY KEY,
             person INTEGER NOT NULL REFERENCES person (id) ON DELETE CASCADE,
             embedding BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX template_person ON template (person)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    (
        "ALTER TABLE person RENAME TO open_person",
        "ALTER TABLE template RENAME TO open_template",
        "DROP INDEX template_person",
        # number: random, so that it says nothing about the person; tag: finds the name; record: sealed PersonDetails
        """CREATE TABLE person (
             number INTEGER PRIMARY KEY,
             tag BLOB NOT NULL UNIQUE,
             record BLOB NOT NULL
           ) STRICT""",
        # the encoders that have templates: the last one is in use, the one before it is kept for a rollback
        """CREATE TABLE encoder (
             id INTEGER PRIMARY KEY,
             fingerprint TEXT NOT NULL UNIQUE
           ) STRICT""",
        """CREATE TABLE template (
             id INTEGER PRIMARY KEY,
             person INTEGER NOT NULL REFERENCES person (number) ON DELETE CASCADE,
             fingerprint TEXT NOT NULL REFERENCES encoder (fingerprint) ON DELETE CASCADE,
             sealed BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX template_person ON template (person)",
        "CREATE INDEX template_fingerprint ON template (fingerprint)",
        """CREATE TABLE photo (
             id INTEGER PRIMARY KEY,
             person INTEGER NOT NULL REFERENCES person (number) ON DELETE CASCADE,
             sealed BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX photo_person ON photo (person)",
        # consecutive failures of 1:1, and when the delay after the last one began, on the boot clock
        """CREATE TABLE attempts (
             person INTEGER PRIMARY KEY REFERENCES person (number) ON DELETE CASCADE,
             failures INTEGER NOT NULL,
             boot TEXT NOT NULL,
             since REAL NOT NULL
           ) STRICT""",
        # the newest rejected attempts of 1:N
        """CREATE TABLE rejection (
             id INTEGER PRIMARY KEY,
             boot TEXT NOT NULL,
             at REAL NOT NULL
           ) STRICT""",
        """CREATE TABLE audit (
             seq INTEGER PRIMARY KEY,
             at INTEGER NOT NULL,
             act TEXT NOT NULL,
             person INTEGER,
             detail TEXT NOT NULL,
             mac BLOB NOT NULL
           ) STRICT""",
        # a row here means that something was deleted and is not overwritten yet
        """CREATE TABLE wipe (
             id INTEGER PRIMARY KEY
           ) STRICT""",
        # one row for each key that was in use; chain: the sealed key of the audit rows from first_seq on
        """CREATE TABLE epoch (
             id INTEGER PRIMARY KEY,
             first_seq INTEGER NOT NULL,
             check_value BLOB NOT NULL,
             chain BLOB NOT NULL
           ) STRICT""",
    ),
    (
        # the settings of the door; seq: the row of the audit trail that installed them
        """CREATE TABLE settings (
             id INTEGER PRIMARY KEY CHECK (id = 1),
             seq INTEGER NOT NULL,
             sealed BLOB NOT NULL
           ) STRICT""",
        "CREATE INDEX audit_installed ON audit (act) WHERE act = 'installed'",
    ),
)

SEALED: Final = 2
"""The first version whose people are sealed. Whoever could write to an older file chose who is in it."""

DROPPED: Final = ("open_template", "open_person")
"""Tables that `first_rows.write_first_rows` drops, so that files from version 2 on do not have them."""
