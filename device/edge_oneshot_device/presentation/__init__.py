"""Every text that the program prints for a person: results, tables, help."""
