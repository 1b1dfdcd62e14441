"""Write one self-contained HTML page about a scoring run: lots and pieces to look at, worst images with heat maps, errors."""

import base64
import io
import posixpath
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import jinja2
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from jobs.command.entry import run
from jobs.command.errors import UsageError
from jobs.command.flags import Flag
from jobs.command.places import check_file
from jobs.command.progress import duration
from jobs.pages.report_chart import histogram_svg
from jobs.pages.verdict_words import CALIBRATE, VERDICTS, number, promised, ranked, said_of, why_none
from models.artifact import CALIBRATION_FILES
from pipeline.decode.config import DecodeConfig
from pipeline.decode.faults import Undecodable
from pipeline.input.config import SourceConfig
from pipeline.report.calibrated_scale import calibrated_scale
from pipeline.report.facts import RunFacts, WorstImage, choose_run, days, histogram, reasons, run_facts, worst_images
from pipeline.report.night_facts import night_thresholds
from pipeline.report.pictures import (
    BOXES_DRAWN,
    ColourScale,
    Shown,
    colour_bar,
    colour_scale,
    contact_sheet,
    heat_map,
    outlined,
    picture,
)
from pipeline.report.review_budgets import worths
from pipeline.report.stored_images import Wanted, fetch
from pipeline.report.verdict_facts import Verdicts, verdicts
from pipeline.state.ledger import Ledger
from pipeline.storage.store import open_store
from pipeline.tables.query import Tables, open_tables
from schemas.version import VERSION

PICTURE_PX = 360
LEGEND_PX = 256


class ReportSettings(BaseModel):
    """Settings of `flowscore report`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    output: Flag[str] = Field(description="where `flowscore score` has put the tables: s3://... or a directory")
    html: Flag[Path | None] = Field(None, description="the page to write")
    png: Flag[Path | None] = Field(None, description="also write a contact sheet of the worst images with heat maps")
    run_id: Flag[str | None] = Field(None, description="scoring run; default: the one that finished last")
    model: Flag[str | None] = Field(None, description="report on the last run of the model with this name")
    worst: Flag[int] = Field(24, ge=1, le=500, description="how many of the highest scores to show")


def main(settings: ReportSettings) -> None:
    """Write one self-contained HTML page about a scoring run, a contact sheet, or both."""
    html, png = settings.html, settings.png
    if html is None and png is None:
        raise UsageError("--html", "the file to write", None, "Add --html report.html, --png worst.png, or both.")
    for flag, path in (("--html", html), ("--png", png)):
        if path is not None:
            check_file(flag, path)
    if png is not None and png.suffix.lower() not in Image.registered_extensions():
        raise UsageError("--png", "a file with the suffix of an image", str(png), "Write for example worst.png.")
    with TemporaryDirectory(prefix="flowscore-report-") as scratch:
        tables = open_tables(settings.output, Path(scratch))
        connection = tables.connection
        facts = run_facts(connection, choose_run(connection, settings.run_id, settings.model))
        judged = verdicts(connection, facts.run_id, facts.model)
        images = worst_images(connection, facts.run_id, settings.worst)
        scale = _scale(tables, facts, judged, settings.output)
        shown = show(images, facts, judged, scale)
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
            html.write_text(page(tables, facts, judged, images, shown, scale, settings.output), encoding="utf-8")
            print(f"report: {html}")
    if png is not None:
        what = f"{len(shown)} most unusual images" if judged.has_any else f"{len(shown)} highest scores"
        title = f"{facts.model}: the {what} of {facts.scored:,}"
        subtitle = f"scoring run {facts.run_id}, finished {facts.finished_at:%Y-%m-%d %H:%M} UTC"
        png.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(shown, title, subtitle, scale).save(png)
        print(f"worst images: {png}")


def _scale(tables: Tables, facts: RunFacts, judged: Verdicts, output: str) -> ColourScale | None:
    """By the calibration that judged the rows, else by the run's own maps: one for all images in any case."""
    digest, found = judged.calibrations.get(facts.model_digest), None
    if digest is not None:
        ledger = Ledger(output, facts.model)
        folder = posixpath.dirname(ledger.calibration_key(digest, CALIBRATION_FILES[0]))
        found = calibrated_scale(f"{ledger.store.uri}/{folder}", facts.model_digest)
    config = DecodeConfig.model_validate(facts.config["decode"])
    return found or colour_scale(tables.connection, facts.model, facts.run_id, config)


def _worths(tables: Tables, facts: RunFacts, judged: Verdicts, output: str) -> list[str]:
    """What the thresholds of a review budget were worth; none without one."""
    nights = night_thresholds(tables.connection, facts.run_id, facts.model)
    return worths(Ledger(output, facts.model), judged.rules, nights)


def show(images: list[WorstImage], facts: RunFacts, judged: Verdicts, scale: ColourScale | None) -> list[Shown]:
    """Fetches the stored images and draws them with their heat maps."""
    wanted = [Wanted(image.image_id, image.uri, image.member, image.content_hash) for image in images]
    stored = fetch(wanted, SourceConfig.model_validate(facts.config["source"]))
    config = DecodeConfig.model_validate(facts.config["decode"])
    found = []
    for rank, image in enumerate(images, start=1):
        encoded, drawn, heat, missing = stored[image.image_id], None, None, ""
        size = (image.width, image.height)
        if isinstance(encoded, str):
            missing = encoded
        else:
            try:
                drawn = picture(encoded, size, config, PICTURE_PX)
            except Undecodable as error:
                missing = str(error)
        if drawn is not None and image.map is not None and scale is not None:
            heat = heat_map(drawn, image.map, size, config, scale)
        if drawn is not None:
            drawn = outlined(drawn, image.boxes, size)
        place = [*image.keys.values(), image.lot, (image.member or image.uri).rpartition("/")[2]]
        verdict = VERDICTS[image.verdict] if judged.has_any else ""
        found.append(Shown(rank, image.score, " · ".join(part for part in place if part), drawn, heat, missing, verdict))
    return found


def page(
    tables: Tables,
    facts: RunFacts,
    judged: Verdicts,
    images: list[WorstImage],
    shown: list[Shown],
    scale: ColourScale | None,
    output: str,
) -> str:
    """The whole page; it loads nothing from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    base = open_store(facts.config["source"]["input_uri"]).uri + "/"
    environment.filters |= {"number": _number, "embedded": _embedded, "duration": duration, "size": _size}
    environment.filters["below_input"] = lambda uri: uri.removeprefix(base)
    bins = histogram(tables.connection, facts.run_id)
    charts = [histogram_svg(bins, logarithmic) for logarithmic in (False, True)] if bins else []
    return environment.get_template("report.html.j2").render(
        facts=facts,
        output=output,
        verdicts=judged,
        why_none=why_none(judged) if judged.not_judged else "",
        calibrate=CALIBRATE,
        promised=promised(judged.promises) + _worths(tables, facts, judged, output),
        by_chance=number(judged.by_chance),
        said_of=said_of,
        ranked=ranked,
        worst=list(zip(images, shown, strict=True)),
        boxes_drawn=BOXES_DRAWN if any(image.boxes for image in images) else None,
        scale=scale,
        legend=colour_bar(LEGEND_PX, 1),
        charts=charts,
        reasons=reasons(tables.connection, facts.run_id),
        days=days(tables.connection, facts.run_id),
        made_at=datetime.now(UTC),
        code_version=VERSION,
    )


def _embedded(image: Image.Image) -> str:
    """A data URI of the image: PNG if it is tiny, JPEG otherwise."""
    sink = io.BytesIO()
    kind = "PNG" if min(image.size) < 16 else "JPEG"
    image.save(sink, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"


def _number(value: float | None, digits: int = 4) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


if __name__ == "__main__":
    run(main)
