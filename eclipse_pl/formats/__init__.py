"""Text files and tables of users: encodings, lines, rows."""
