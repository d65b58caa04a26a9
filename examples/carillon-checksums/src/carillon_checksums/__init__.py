"""A job type for Carillon: SHA-256 of the files in a folder."""
