"""The people enrolled: kept durably, sealed, and with a record of every decision."""
