"""The page of explanations: the most trusted map first, and nothing from outside is markup."""

import re

from jobs.pages.explanation_page import ShownImage, ShownMap, page


def test_maps_stand_in_the_order_given_with_their_standing_and_text_is_escaped() -> None:
    maps = [
        ShownMap("grad_cam", "000-a.grad_cam.png", "better", "faster than all 19 random orders"),
        ShownMap("gradient", "000-a.gradient.png", "worse", "WORSE THAN RANDOM"),
    ]
    images = [ShownImage("<b>&.png", "score 3.1", "trust grad_cam; not gradient", maps)]
    html = page("tile", "d" * 64, "This took 2 s.", {"<i>.png": "no <image>"}, images)
    assert re.findall(r'<figure class="(\w+)">', html) == ["better", "worse"]
    assert re.findall(r'<img src="([^"]+)"', html) == ["000-a.grad_cam.png", "000-a.gradient.png"]
    assert "&lt;b&gt;&amp;.png" in html and "<b>&.png" not in html and "<i>" not in html
    assert "score 3.1. <strong>Trust grad_cam; not gradient</strong>" in html and "This took 2 s." in html
    assert not re.search(r"https?://|<script", html), "it loads nothing from elsewhere"
