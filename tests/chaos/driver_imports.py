"""The imports of the process that drivers are forked from, so that a driver starts at once. They start no thread."""

import inline_engine  # noqa: F401

import jobs.score  # noqa: F401
import models.detectors.csflow  # noqa: F401
import pipeline.scoring.scorer  # noqa: F401
import pipeline.tables.query  # noqa: F401
