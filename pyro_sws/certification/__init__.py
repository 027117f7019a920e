"""Certificates of a file on its own: decoded, evaluated, refused where an assumption fails."""
