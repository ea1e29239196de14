"""Records, postings and reclaim entries in one SQLite file."""
