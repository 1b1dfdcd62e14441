"""Commands as people get them wrong, over all verbs: what each says, in its one line."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import yaml
from fake_run import published, scored
from PIL import Image
from tiny_model import tiny_config, tiny_fitted

from models import artifact

FILES = {
    "list.yaml": ["epochs", 3],
    "unknown.yaml": {"model_outt": "m"},
    "overlap.yaml": {"overlap": 0.9},
    "workspace.yaml": {"workspace": "/dev/null/x"},
    "limits.yaml": {"limits": {"max_error_share": 7}},
    "rates.yaml": {"rates": {"a": 1}},
    "draws.yaml": {"draws": 3},
    "seed.yaml": {"seed": -1},
    "gpus.yaml": {"resources": {"scorer_gpus": 0.33333}},
    "light.yaml": {"criterion_light": 0.4},
    "pad.yaml": {"hyperparameters": {"hiden": 8}, "weights": "none"},
}


@dataclass(frozen=True)
class Places:
    """What the commands name: what is there, and `new`, below which nothing is.

    good: folder of pictures.  labelled: a labelled set.  model: a trained one.  out: tables with a slice of another model.
    file: of text.  yaml: folder of FILES.  empty: a folder.
    """

    good: Path
    labelled: Path
    model: Path
    out: Path
    file: Path
    yaml: Path
    empty: Path
    new: Path


class Wrong(NamedTuple):
    """One command. says: part of its line, with the names of places in braces.  light: answered without torch."""

    verb: str
    arguments: str
    says: str
    light: bool = True


def make_places(root: Path) -> Places:
    """All of it, below an empty folder; takes a second, for the model."""
    places = Places(*(root / name for name in Places.__dataclass_fields__))
    for folder in (
        places.good,
        places.labelled / "test" / "good",
        places.labelled / "test" / "crack",
        places.yaml,
        places.empty,
    ):
        folder.mkdir(parents=True)
    for folder in (places.good, places.labelled / "test" / "good", places.labelled / "test" / "crack"):
        for number in range(9):
            Image.new("L", (70, 70), 10 * number + len(folder.name)).save(folder / f"{number}.png")
    config = tiny_config(trained={"versions": {"timm": version("timm")}})  # of another version it is loaded to find out
    artifact.save(places.model, config, tiny_fitted(config), "# tiny\n")
    published(str(places.out), [("2026-01-01", [scored("a", 1.5)])])
    places.file.write_text("seven tiles\n")
    for name, content in FILES.items():
        (places.yaml / name).write_text(yaml.safe_dump(content))
    return places


TRAIN = "--input {good} --model-out {new}/m --weights none --image-size 64"
CALIBRATE = "--model {model} --input {good}"
EVALUATE = "--model {model} --input {labelled}"
SCORE = "--model {model} --input {good} --output {new}/out"
EXPLAIN = "--model {model} --input {good} --output {new}/pictures"

ROWS = (
    Wrong("train", "", "input must be given; got nothing. Add --input"),
    Wrong("train", "--input {good}", "model_out must be given; got nothing. Add --model-out"),
    Wrong("train", "--input {good} --model-out", "--model-out must be given with a value"),
    Wrong("train", "--input {good} --modle-out m", "Did you mean --model-out?"),
    Wrong("train", TRAIN + " more pictures", "Quote a value that has spaces"),
    Wrong("train", TRAIN + " --follow-links=yes", "--follow-links must be given without a value"),
    Wrong("train", TRAIN + " --epochs -3", "epochs must be greater than or equal to 1; got -3"),
    Wrong("train", TRAIN + " --epochs three", "--epochs must be a valid integer"),
    Wrong("train", TRAIN + " --image-size 7", "image_size must be N or HEIGHTxWIDTH, 16 to 8192 pixels each; got '7'"),
    Wrong("train", TRAIN + " --image-size 64by64", "Write for example 256 or 192x320"),
    Wrong("train", TRAIN + " --backbone vit_tiny_patch16_224", "backbone must run on 64 x 64 images", light=False),
    Wrong("train", TRAIN + " --detector csflo", "Did you mean 'csflow'?"),
    Wrong("train", TRAIN + " --backbone resnet_18", "backbone must be a timm model; got 'resnet_18'", light=False),
    Wrong("train", TRAIN + " --weights {new}/w.safetensors", "--weights must be auto, hub, none or a safetensors file"),
    Wrong("train", TRAIN + " --weights {file}", "weights must be auto, hub, none or a safetensors file", light=False),
    Wrong("train", "--input {good}s --model-out {new}/m", "Did you mean '{good}'?"),
    Wrong("train", "--input {new} --model-out {new}/m", "--input must be a folder that is there"),
    Wrong("train", "--input {file} --model-out {new}/m", "It is a file: give the folder that holds it"),
    Wrong("train", "--input http://host/x --model-out {new}/m", "AWS_ENDPOINT_URL"),
    Wrong("train", "--input s3:// --model-out {new}/m", "--input must be s3://bucket/prefix or a folder"),
    Wrong(
        "train",
        "--input {empty} --model-out {new}/m --weights none",
        "--input must be a place with good images",
        light=False,
    ),
    Wrong("train", "--input {good} --model-out ''", "--model-out must be given with a value"),
    Wrong("train", "--input {good} --model-out {file}", "it is a file. Choose another --model-out"),
    Wrong("train", "--input {good} --model-out {good}", "it holds other files. Choose another --model-out"),
    Wrong("train", "--input {good} --model-out {model}", "replace it with --overwrite"),
    Wrong("train", "--input {good} --model-out /dev/null/m", "--model-out must be in a folder that can be written"),
    Wrong("train", "--input {good} --model-out ftp://host/m", "--model-out must be s3://bucket/prefix or a folder"),
    Wrong("train", TRAIN + " --calibration-share 0.6 --selection-share 0.6", "less than 1 together with selection_share"),
    Wrong("train", TRAIN + " --calibration-share nan", "calibration_share must be"),
    Wrong("train", TRAIN + " --selection-share inf", "selection_share must be less than 0.9"),
    Wrong("train", TRAIN + " --detector auto --selection-share 0", "over 0 with --detector auto, which chooses by held-out"),
    Wrong("train", TRAIN + " --detector ensemble --selection-share 0", "which weighs its members by held-out images; got 0"),
    Wrong("train", TRAIN + " --detector auto --epochs 3", "epochs must be left out with --detector auto; got 3"),
    Wrong("train", TRAIN + " --light 1", "light must be less than 1; got 1"),
    Wrong("train", TRAIN + " --light -0.1", "light must be greater than or equal to 0"),
    Wrong("train", TRAIN + " --light 40%", "--light must be a valid"),
    Wrong("train", TRAIN + " --selection-share 0 --config {yaml}/light.yaml", "criterion_light must be 0 without a selection"),
    Wrong("train", TRAIN + " --device gpu", "device must be 'auto', 'cpu' or 'cuda'; got 'gpu'"),
    Wrong("train", TRAIN + " --roi {new}/mask.png", "--roi must be a mask image; got"),
    Wrong("train", TRAIN + " --roi {file}", "--roi must be a mask image that can be read"),
    Wrong("train", TRAIN + " --roi {good}/1.png", "None of its pixels is 0, so nothing would be left out"),
    Wrong("train", TRAIN + " --roi {good}/1.png --aspect tile", "roi must be left out with --aspect tile"),
    Wrong("train", TRAIN + " --shading-correction --aspect keep", "shading_correction must be left out with --aspect"),
    Wrong("train", TRAIN + " --aspect stretch", "aspect must be 'squash', 'keep' or 'tile'"),
    Wrong("train", TRAIN + " --seed -1", "seed must be greater than or equal to 0"),
    Wrong("train", TRAIN + " --white-level 0", "white_level must be greater than or equal to 255"),
    Wrong("train", TRAIN + " --name 'two words'", "name must be text that matches"),
    Wrong("train", TRAIN + " --key-pattern '{{line'", "key_pattern must have its braces in pairs"),
    Wrong("train", TRAIN + " --exclude {new}/list", "--exclude must be a readable text file", light=False),
    Wrong("train", TRAIN + " --config {new}/c.yaml", "--config must be a readable YAML file"),
    Wrong("train", TRAIN + " --config {yaml}/list.yaml", "--config must be a YAML mapping; got 'list'"),
    Wrong("train", TRAIN + " --config {yaml}/unknown.yaml", "Did you mean 'model_out'?"),
    Wrong("train", TRAIN + " --config {yaml}/overlap.yaml", "overlap must be less than or equal to 0.5; got 0.9"),
    Wrong("train", TRAIN + " --config {yaml}/workspace.yaml", "workspace must be in a folder that can be written"),
    Wrong("train", TRAIN + " --config {yaml}/pad.yaml", "key of hyperparameters must be", light=False),
    Wrong("calibrate", "--model {new} --input {good}", "model must be an artifact's directory"),
    Wrong("calibrate", "--model {good} --input {good}", "digests.json must be there"),
    Wrong("calibrate", "--model {model} --input {new}", "--input must be a folder that is there"),
    Wrong("calibrate", "--model {model} --input {empty}", "--input must be a place with good images", light=False),
    Wrong("calibrate", CALIBRATE + " --rates 0", "rate must be above 0 and below 1; got '0'"),
    Wrong("calibrate", CALIBRATE + " --rates 5", "rate must be above 0 and below 1; got '5'"),
    Wrong("calibrate", CALIBRATE + " --rates nan", "rate must be above 0 and below 1; got 'nan'"),
    Wrong("calibrate", CALIBRATE + " --config {yaml}/rates.yaml", "rates must be numbers with commas between them"),
    Wrong("calibrate", CALIBRATE + " --repeats {good}", "repeat_key must be given with repeats"),
    Wrong("calibrate", CALIBRATE + " --size-key size", "challenge must be given with size_key"),
    Wrong("calibrate", CALIBRATE + " --challenge {new}", "--challenge must be a folder that is there"),
    Wrong("calibrate", CALIBRATE + " --view-key top,side", "view_key must be one key column"),
    Wrong("calibrate", CALIBRATE + " --piece-key ,", "keys must be names of key columns"),
    Wrong("evaluate", "--model {model} --input {new}", "a folder in the MVTec layout"),
    Wrong("evaluate", "--model {model} --input {good}", "a folder in the MVTec layout"),
    Wrong("evaluate", "--model {new} --input {labelled}", "model must be an artifact's directory"),
    Wrong("evaluate", EVALUATE + " --stress=yes", "--stress must be given without a value"),
    Wrong("evaluate", EVALUATE + " --json {good}", "--json must be a file that can be written"),
    Wrong("evaluate", EVALUATE + " --groups {new}.csv", "--groups must be"),
    Wrong("evaluate", EVALUATE + " --device tpu", "device must be 'auto', 'cpu' or 'cuda'; got 'tpu'"),
    Wrong("evaluate", EVALUATE + " --config {yaml}/draws.yaml", "draws must be greater than or equal to 100; got 3"),
    Wrong("explain", "--model {new} --input {good} --output {new}/p", "model must be an artifact's directory"),
    Wrong("explain", "--model {model} --input {new} --output {new}/p", "--input must be"),
    Wrong("explain", "--model {model} --input {good} --output {file}", "--output must be"),
    Wrong("explain", EXPLAIN + " --method gradcam", "method must be"),
    Wrong("explain", EXPLAIN + " --limit 0", "limit must be greater than or equal to 1; got 0"),
    Wrong("explain", EXPLAIN + " --good {new}", "--good must be"),
    Wrong("explain", EXPLAIN + " --layer blocks.99", "blocks.99", light=False),
    Wrong("score", "--model {model} --input {good}", "output must be given; got nothing. Add --output"),
    Wrong("score", "--model {new} --input {good} --output {new}/out", "model must be an artifact's directory"),
    Wrong("score", "--model {model} --input {good}s --output {new}/out", "Did you mean '{good}'?"),
    Wrong("score", "--model {model} --input {good} --output ftp://host/x", "uri must be s3://bucket/prefix"),
    Wrong("score", "--model {model} --input {good} --output {good}/out", "--output must be outside the input"),
    Wrong("score", "--model {model} --input {good} --output {file}", "uri must be a directory; got the file"),
    Wrong("score", SCORE + " --device gpu", "device must be 'auto', 'cpu' or 'cuda'; got 'gpu'"),
    Wrong("score", SCORE + " --max-error-share 2", "max_error_share must be less than or equal to 1"),
    Wrong("score", SCORE + " --min-errors few", "--min-errors must be a valid integer"),
    Wrong("score", SCORE + " --date ''", "--date must be given with a value"),
    Wrong("score", SCORE + " --image-id uuid", "image_id must be 'uri' or 'key'; got 'uuid'"),
    Wrong("score", SCORE + " --image-id key", "input_name must be given with image_id key"),
    Wrong("score", SCORE + " --rate 7", "rate must be above 0 and below 1; got '7'"),
    Wrong("score", SCORE + " --rate five", "rate must be above 0 and below 1; got 'five'"),
    Wrong("score", SCORE + " --review-budget -1", "review_budget must be greater than or equal to 0"),
    Wrong("score", SCORE + " --explain gradcam", "explain must be"),
    Wrong("score", SCORE + " --explain grad_cam", "--explain must be left out for a model without a map threshold"),
    Wrong("score", SCORE + " --listing {new}", "{new}"),
    Wrong("score", SCORE + " --white-level 70000", "white_level must be less than or equal to 65535"),
    Wrong("score", SCORE + " --address cluster", "address must be"),
    Wrong("score", SCORE + " --key-pattern '{{line}}{{lot}}'", "key_pattern must have text between two fields"),
    Wrong("score", SCORE + " --config {yaml}/limits.yaml", "max_error_share must be less than or equal to 1; got 7"),
    Wrong("evaluate", EVALUATE + " --config {yaml}/seed.yaml", "seed must be greater than or equal to 0; got -1"),
    Wrong("score", SCORE + " --config {yaml}/gpus.yaml", "resources.scorer_gpus must be a part of one GPU"),
    Wrong("query", "--output {out} '  '", "sql must be given with a value"),
    Wrong("query", "--output {out}", "sql must be given; got nothing"),
    Wrong("query", "'select 1'", "output must be given; got nothing. Add --output"),
    Wrong("query", "--output {out} select uri from scores", "Quote a value that has spaces"),
    Wrong("query", "--output {out} 'select uri form scores'", "query must be SQL that DuckDB runs over the tables"),
    Wrong("query", "--output {out} 'select nonsense from scores'", "query must be SQL that DuckDB runs over the tables"),
    Wrong("query", "--output {out} 'drop table scores'", "query must ask"),
    Wrong("query", "--output {new} 'select 1'", "output must hold tables that `flowscore score` has published"),
    Wrong("query", "--output {out} 'select 1' --rows 0", "rows must be greater than or equal to 1; got 0"),
    Wrong("query", "--output {out} 'select 1' --csv --json", "the form of the result must be one of"),
    Wrong("query", "--output {out} 'select 1' --parquet {good}", "--parquet must be a file that can be written"),
    Wrong("report", "--output {out}", "--html must be the file to write"),
    Wrong("report", "--output {new} --html {new}/r.html", "output must hold tables that `flowscore score` has published"),
    Wrong("report", "--output {out} --html s3://bucket/r.html", "--html must be a file on this machine"),
    Wrong("report", "--output {out} --png {new}/worst.txt", "--png must be a file with the suffix of an image"),
    Wrong("report", "--output {out} --html {new}/r.html --worst 0", "worst must be greater than or equal to 1; got 0"),
    Wrong("report", "--output {out} --html {new}/r.html --run-id nope", "nope"),
    Wrong("report", "--output {out} --html {new}/r.html --model nope", "nope"),
    Wrong("judge", "--model {new} --output {out}", "model must be an artifact's directory"),
    Wrong("judge", "--model {model} --output {out}", "--output must be a place where model tiny has scored"),
    Wrong("judge", "--model {model} --output {out} --rate 200%", "rate must be above 0 and below 1; got '200%'"),
    Wrong("finalize", "--output {new}", "--output must be that of a scoring run"),
    Wrong("finalize", "--output {out} --model nope", "--model must be that of a scoring run"),
    Wrong("finalize", "--output {out} --slice 0", "slice must be greater than or equal to 1; got 0"),
    Wrong("finalize", "--output {out} --slice 99", "--slice must be one of model tiles that is not published"),
    Wrong("finalize", "--output {out} --accept-errors", "--slice must be given with --accept-errors"),
    Wrong("finalize", "--output {out} --max-error-share -0.1", "max_error_share must be greater than or equal to 0"),
    Wrong("promote", "--model {new} --output {out}", "model must be an artifact's directory"),
    Wrong("promote", "--model {model} --output {out}", "--output must be a place where model tiny has scored"),
    Wrong("promote", "--model {model} --output {out} --from 2026-13-45", "--from must be a day such as 2026-01-31"),
    Wrong("rekey", "--model tiles --output {out} --key-pattern '{{line'", "key_pattern must have its braces in pairs"),
    Wrong("rekey", "--model nope --output {out} --key-pattern '{{name}}'", "--model must be that of a scoring run"),
    Wrong("rekey", "--model tiles --output {new} --key-pattern '{{name}}'", "--output must be that of a scoring run"),
    Wrong("bench", "--case csflow", "--case must be one of"),
    Wrong("bench", "--case csflow-b5-768 --size 100", "--size must be WIDTHxHEIGHT"),
    Wrong("bench", "--measure speed", "--measure must be one of in-memory, decode-only, end-to-end"),
    Wrong("bench", "--image-size 7 --measure in-memory", "--image-size must be 16 to 8192 pixels; got 7"),
    Wrong("bench", "--precision int8 --measure in-memory", "--precision must be float32, bf16 or fp16; got 'int8'"),
    Wrong("bench", "--nodes 0", "nodes must be greater than or equal to 1; got 0"),
    Wrong("bench", "--seconds nan", "seconds must be"),
    Wrong("bench", "--plan 1000 --csv {good}", "--csv must be a file that can be written"),
    Wrong("bench", "", "--store must be given for end-to-end, or --input and --output"),
    Wrong("bench", "--model {new} --measure in-memory", "model must be an artifact's directory"),
    Wrong("bench", "--model {model} --case csflow-b5-768 --measure in-memory", "--model must be given without --case"),
    Wrong("doctor", "--modle {model}", "Did you mean --model?"),
    Wrong("doctor", "--input ''", "--input must be given with a value"),
    Wrong("demo", "--seed -1", "seed must be greater than or equal to 0; got -1"),
    Wrong("demo", "--images 5", "images must be greater than or equal to 100; got 5"),
    Wrong("demo", "--directory {file}", "--directory must be in a folder that can be written"),
    Wrong("demo", "--directory {new}/d --seed x", "--seed must be a valid integer"),
)
