"""Users' text files and tables: encodings, lines, rows."""
