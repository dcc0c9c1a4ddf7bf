"""The data sets: each module is one, or a few that share files."""
