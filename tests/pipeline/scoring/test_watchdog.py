import threading

from pipeline.scoring.watchdog import Watchdog, over


def test_what_takes_too_long_is_said_once():
    said, heard = [], threading.Event()

    def hung(sentence):
        said.append(sentence)
        heard.set()

    watch = Watchdog(hung, look_every_s=0.01)
    with watch.over("a batch of 16 images", 0.05), watch.over("loading the model", 3600):
        assert heard.wait(60)
        later = threading.Event()
        watch._hung = lambda sentence: (said.append(sentence), later.set())
        with watch.over("another", 0.05):
            assert later.wait(60)
    assert said[0] == "the device hangs: a batch of 16 images took longer than 0.05 s"
    assert [sentence.split(": ")[1].split(" took")[0] for sentence in said] == ["a batch of 16 images", "another"]


def test_what_ends_in_time_is_not():
    said, looked = [], threading.Event()
    watch = Watchdog(said.append, look_every_s=0.01)
    for _ in range(20):
        with watch.over("a batch", 3600):
            pass
    assert not watch._ends
    watch._hung = lambda sentence: looked.set()
    with watch.over("the last", 0.0):
        assert looked.wait(60), "it still looks"
    assert said == []


def test_without_a_watchdog_nothing_happens():
    with over(None, "a batch", 0.0):
        pass
