"""The bundle: the contract between who exports and who recognizes, read and checked."""
