"""What the process that drivers are forked from imports, so that a driver starts in a moment. It starts no thread."""

import inline_engine  # noqa: F401

import jobs.score  # noqa: F401
import models.detectors.csflow  # noqa: F401
import pipeline.scoring.scorer  # noqa: F401
import pipeline.tables.query  # noqa: F401
