"""Bundle, encoder and gallery at work together: install, enrol, decide."""
