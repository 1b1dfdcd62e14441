import pytest
import yaml
from tiny_model import TINY_CASE

from jobs import bench
from jobs.benchmark import alone as bench_measures
from jobs.benchmark.cases import cases
from jobs.benchmark.ceilings import Ceilings
from jobs.benchmark.figures import Figure, Measured, append, measures, read
from jobs.benchmark.hardware import cores, hardware_name
from jobs.command.entry import run

HARDWARE = hardware_name("cpu")


@pytest.fixture
def ask(tmp_path, capsys):
    """`flowscore bench` on the CPU with a case `tiny` and the settings given."""

    def call(*arguments, code=0, **settings):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"cases": {"tiny": TINY_CASE}, "device": "cpu", **settings}))
        with pytest.raises(SystemExit) as ended:
            run(bench.main, ["--config", str(tmp_path / "config.yaml"), "--seconds", "0", *map(str, arguments)])
        shown = capsys.readouterr()
        assert ended.value.code == code, shown.err
        return shown

    return call


@pytest.fixture
def quick(monkeypatch):
    """Ceilings that need not be measured."""
    known = Ceilings({"float32": 1e11, "bfloat16": 2e11}, 1e10)
    monkeypatch.setattr(bench_measures, "ceilings_of", lambda device, threads: known)


@pytest.fixture
def figures(tmp_path):
    """A file in which tiny scores 40 images a second on two threads, a core decodes 50 of 64x48, and a run took its time."""
    path = tmp_path / "kept.csv"
    alone = [Figure("model_alone_per_s", 40), Figure("threads", 2)]
    append(path, HARDWARE, Measured("tiny", "in-memory", "cpu-bf16", alone))
    append(path, HARDWARE, Measured("tiny", "decode-only", "cpu", [Figure("decode_per_s", 50)], "64x48"))
    return path


def add_run(path, images, finalize_s):
    run = {"images": images, "read_s": 0.006 * images, "commit_s": 0.004 * images, "first_unit_s": 15, "finalize_s": finalize_s}
    measured = Measured("tiny", "end-to-end", "cpu-bf16", [Figure(*pair) for pair in run.items()], f"{images}x48", "s3")
    append(path, HARDWARE, measured)


def test_list_has_a_line_for_every_case(ask):
    lines = ask("--list").out.splitlines()
    assert [line.split()[0] for line in lines] == [*cases({}), "tiny"]
    assert "tiny                         for tests (bf16)" in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--case", "tinny"), "got 'tinny'. Did you mean 'tiny'?"),
        (("--case", "tiny", "--measure", "memory"), "--measure must be one of in-memory, decode-only, end-to-end"),
        (("--case", "tiny", "--size", "64"), "--size must be WIDTHxHEIGHT"),
        (("--case", "tiny", "--date", "yesterday"), "date must be a day such as 2024-06-03; got 'yesterday'"),
        (("--case", "tiny", "--measure", "end-to-end"), "--store must be given"),
        ((), "--store must be given"),
        (("--images", "0"), "images must be greater than or equal to 1"),
        (("--in-memory", "0"), "in_memory_images must be greater than or equal to 1"),
        (("--seconds", "nan"), "seconds must be less than 86400"),
        (("--case", "tiny", "--device", "cuda:1"), "device must be 'auto', 'cpu' or 'cuda'; got 'cuda:1'"),
    ],
)
def test_a_wrong_setting_is_one_line(ask, arguments, words):
    shown = ask(*arguments, code=2)
    assert words in shown.err and shown.err.count("\n") == 1


def test_a_case_in_memory_and_decoding(ask, quick, tmp_path):
    path = tmp_path / "figures.csv"
    shown = ask("--case", "tiny", "--size", "80x60", "--csv", path).out
    assert "end-to-end is left out" in shown and "decoding: a core turns" in shown
    assert "at best 100 GFLOP/s in float32, 200 GFLOP/s in bfloat16 and 10 GB/s" in shown
    (memory,) = measures(read(path), case="tiny", measure="in-memory", device="cpu-bf16", stored_size="")
    (decoding,) = measures(read(path), case="tiny", measure="decode-only", device="cpu", stored_size="80x60")
    assert memory["threads"] == cores() and memory["gflop_float32_per_image"] > 0 and memory["share_of_arithmetic"] > 0
    assert decoding["megapixels"] == 0.005 and decoding["decode_to_pillow"] > 0


def test_a_plan_from_kept_figures_without_a_price(ask, figures):
    lines = ask(
        "--case", "tiny", "--plan", 3600, "--size", "64x48", "--csv", figures, "--nodes", 3, prices={"cpus_per_node": 7}
    )
    lines = lines.out.splitlines()
    assert "so the estimate leaves out start, reading, committing and finalize" in lines[2]
    # 20 ms to decode and 50 to score on 7 cores: 10 ms an image
    assert [line.split() for line in lines[-5:-1]] == [
        ["nodes", "hours", "GPU-hours", "USD", "limit"],
        ["1", "0.010", "0.000", "-", "model"],
        ["2", "0.005", "0.000", "-", "model"],
        ["3", "0.003", "0.000", "-", "model"],
    ]
    assert "prices: {cpu_node_usd_per_h: ...}" in lines[-1]


def test_a_plan_with_prices_and_what_runs_took(ask, figures):
    prices = {"cpus_per_node": 8, "cpu_node_usd_per_h": 10}
    asked = ("--case", "tiny", "--plan", 3_600_000, "--size", "64x48", "--csv", figures, "--nodes", 1)
    add_run(figures, 1000, finalize_s=3)
    one = ask(*asked, prices=prices).out.splitlines()
    assert "with runs of 1,000 images only" in one[2] and "3.000 ms to finalize" in one[-3]
    # 80 ms on 8 cores and 3 ms of finalize: 13 ms an image, and 15 s
    assert one[-1].split() == ["1", "13.004", "0.000", "130.04", "model"]
    add_run(figures, 3000, finalize_s=5)
    two = ask(*asked, prices=prices).out.splitlines()
    # finalize is 2 s once and 1 ms an image now
    assert "2 run(s)" in two[2] and two[-1].split() == ["1", "11.005", "0.000", "110.05", "model"]


def test_a_plan_measures_what_is_not_kept(ask, quick, figures):
    shown = ask("--case", "tiny", "--plan", 1000, "--size", "72x48", "--csv", figures, "--nodes", 1).out
    assert "decode-only: measured now" in shown and "in-memory: from" in shown
    assert "decode-only: from" in ask("--case", "tiny", "--plan", 1000, "--size", "72x48", "--csv", figures).out


def test_a_decoder_on_the_gpu_is_refused(ask):
    """Parts and one process decode on the CPU: the run beside them would be of another mode."""
    assert "decoder must be cpu for bench" in ask("--list", code=2, device="cuda", decoder="cuda").err


def test_prices_are_checked(ask):
    shown = ask("--case", "tiny", "--plan", 10, code=2, prices={"cpu_node_usd_per_hour": 1})
    assert "Did you mean 'cpu_node_usd_per_h'?" in shown.err and shown.err.count("\n") == 1


def test_an_output_that_holds_something_is_not_written_into(ask, tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "kept.txt").write_text("of somebody else")
    places = {"input": str(tmp_path), "output": str(tmp_path / "tables")}
    shown = ask("--case", "tiny", "--measure", "end-to-end", code=2, **places)
    assert "--output must be an empty place" in shown.err and "kept.txt" in shown.err
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["kept.txt"]
