import pytest
import ray

from pipeline.stages import cluster


@pytest.fixture(scope="module")
def ray_runs():
    """A local Ray for the tests of one file: tests elsewhere hold that a command starts none, so it ends with the file."""
    assert not ray.is_initialized(), "another test has left a Ray running"
    cluster.start_ray(None)
    yield
    ray.shutdown()
