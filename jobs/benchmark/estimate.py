"""`flowscore bench --plan`: estimates hours, GPU-hours and money of a run from measured rates."""

from collections.abc import Callable
from dataclasses import replace

from jobs.benchmark.cost import Rates, doublings, estimate, line
from jobs.benchmark.figures import Book, Measured, measures, read
from jobs.benchmark.measure_names import DECODE_ONLY, END_TO_END, IN_MEMORY
from jobs.benchmark.prices import Prices


def measured_rates(
    book: Book, case: str, device: str, stored_size: str, measure: Callable[[str], Measured]
) -> tuple[Rates, list[str]]:
    """The rates of a case, and a line on the origin of each.

    Args:
        book: its file holds earlier figures of this hardware; the newest of each measure count.
        device: kind and precision, as in that file: "cuda-bf16".
        measure: takes a measure of which the file has no figures, by name.
    """
    rows = [row for row in (read(book.path) if book.path.exists() else []) if row["hardware"] == book.hardware]
    found, lines = {}, []
    for name, wanted in ((IN_MEMORY, {"device": device}), (DECODE_ONLY, {"stored_size": stored_size})):
        kept = measures(rows, case=case, measure=name, **wanted)
        if kept:
            found[name] = kept[-1]
            lines.append(f"{name}: from {book.path}")
        else:
            lines.append(f"{name}: measured now; {book.path} has none of {case} for {' '.join(wanted.values())}")
            found[name] = {figure.name: figure.value for figure in measure(name).figures}
    on_gpu = device.partition("-")[0] == "cuda"
    model = found[IN_MEMORY]
    rates = Rates(
        on_gpu,
        decode_s=1 / found[DECODE_ONLY]["decode_per_s"],
        model_s=(1 if on_gpu else model["threads"]) / model["model_alone_per_s"],
    )
    ended = [run for run in measures(rows, measure=END_TO_END) if "finalize_s" in run]
    runs = [run for run in measures(rows, case=case, measure=END_TO_END, device=device) if "finalize_s" in run]
    if not runs:
        lines.append(
            f"{END_TO_END}: {book.path} has no run of {case}, so the estimate leaves out start, reading, committing and "
            f"finalize; measure them with --measure {END_TO_END}"
        )
        return rates, lines
    run = runs[-1]
    once_s, finalize_s = line([(int(run["images"]), run["finalize_s"]) for run in ended])
    alike = len({run["images"] for run in ended}) < 2
    lines.append(
        f"{END_TO_END}: start, reading and committing from {book.path}, and finalize from {len(ended)} run(s)"
        + (f"; with runs of {run['images']:,.0f} images only, all of it is taken to grow with the images" if alike else "")
    )
    other_s = (run["read_s"] + run["commit_s"]) / run["images"]
    model_s = rates.model_s * run.get("slots_per_image", 1.0)  # older files lack it: full batches
    return replace(rates, model_s=model_s, other_s=other_s, finalize_s=finalize_s, once_s=run["first_unit_s"] + once_s), lines


def table(images: int, rates: Rates, prices: Prices, nodes: int) -> list[str]:
    """Lines for 1, 2, 4, ... nodes; if prices are missing, a last line says how to give them."""
    node = prices.node(rates.on_gpu)
    kind = "GPU" if rates.on_gpu else "core"
    lines = [
        f"an image takes {rates.decode_s * 1e3:.2f} ms of a core to decode, {rates.model_s * 1e3:.2f} ms of a {kind} to score, "
        f"{rates.other_s * 1e3:.2f} ms of a core to read and commit, {rates.finalize_s * 1e3:.3f} ms to finalize, and a "
        f"run {rates.once_s:.1f} s once; a node has {node.cpus} cores and {node.gpus} GPUs",
        f"{'nodes':>6}{'hours':>12}{'GPU-hours':>12}{'USD':>12}  limit",
    ]
    for count in doublings(nodes):
        found = estimate(images, rates, node, count)
        usd = "-" if found.usd is None else f"{found.usd:,.2f}"
        lines.append(f"{count:>6}{found.seconds / 3600:>12,.3f}{found.gpu_hours:>12,.3f}{usd:>12}  {found.limit}")
    if node.usd_per_h is None:
        key = "gpu_node_usd_per_h" if rates.on_gpu else "cpu_node_usd_per_h"
        lines.append(f"USD needs a price: give `prices: {{{key}: ...}}`, USD an hour of a node, in the file of --config")
    return lines
