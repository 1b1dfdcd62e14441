import pytest
import ray

from pipeline.stages import cluster


@pytest.fixture(scope="package")
def ray_runs():
    """A local Ray; one that other tests have started already does as well."""
    others = ray.is_initialized()
    cluster.start_ray(None)
    yield
    if not others:
        ray.shutdown()
