"""Storage stops answering, for a while or for good, from the first image that is read."""

from collections import Counter

import chaos_archive
import pytest
from driver import Driver
from fault_proxy import Fault

DONE, PARTIAL = 0, 5
ATTEMPTS = 2
UNITS_UNDER_WAY = 2


@pytest.fixture
def first_image(laboratory):
    """The number of the first request for an image's bytes; planning reads only Parquet footers."""
    requests = laboratory.whole["first"].requests
    return next(request.number for request in requests if request.method == "GET" and request.key.endswith(".png"))


@pytest.fixture
def command(laboratory, first_image, tmp_path):
    """`flowscore score` through an outage of this many requests."""

    def run(output, times, outage_s):
        settings = chaos_archive.settings(laboratory.model, f"{laboratory.bucket}/in-first", output)
        settings["limits"] |= {"outage_s": outage_s}
        laboratory.proxy.arm(Fault("503", first_image, times))
        driver = Driver(settings, laboratory.environment | {"AWS_MAX_ATTEMPTS": str(ATTEMPTS)}, tmp_path / "log")
        return driver.wait(), driver.log.read_text()

    return run


@pytest.mark.slow
def test_an_outage_is_waited_out_within_the_command(command, laboratory):
    output = f"{laboratory.bucket}/outage"
    code, log = command(output, 4 * ATTEMPTS + 8, 60)
    assert code == DONE, log
    assert "storage does not answer; waiting up to 60 s for it" in log
    assert laboratory.wrong("first", output) == []


@pytest.mark.slow
def test_units_are_not_spent_on_storage_that_is_gone(command, laboratory, first_image):
    output = f"{laboratory.bucket}/gone"
    code, log = command(output, 10**9, 1)
    assert code == PARTIAL, log
    assert "503" in log and "Traceback" not in log
    harmed = [request for request in laboratory.proxy.passed if request.number >= first_image and "/in-first/" in request.key]
    asked = Counter(request.key for request in harmed if not request.listing)
    assert 0 < len(asked) <= UNITS_UNDER_WAY * chaos_archive.UNIT_IMAGES, asked
    assert max(asked.values()) <= 1 + ATTEMPTS, f"a unit was tried twice: {asked}"
    assert laboratory.run("first", output, None)[0] == DONE
    assert laboratory.wrong("first", output) == []
