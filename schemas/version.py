"""The version of flowscore; pyproject.toml reads it from here, so that code on a cluster knows it without being installed."""

VERSION = "0.1.0"
