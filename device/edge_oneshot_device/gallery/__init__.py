"""The gallery: the people enrolled, sealed and durable, with an audit trail of every decision and change."""
