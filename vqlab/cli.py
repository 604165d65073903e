"""The ``vqlab`` command: parses, calls, prints."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqlab.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(add_completion=False, help="A lab for vector-quantized autoencoders.")

Profile = Annotated[str, typer.Option(help="quick | paper | gpu")]
Data = Annotated[str, typer.Option(help="photos | cifar10 | folder:PATH (folder or .tar.gz with train/ and test/)")]
Seed = Annotated[int, typer.Option(help="seed of every random generator")]
Runs = Annotated[Path, typer.Option(help="where Run folders live")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="a value, as quantizer.transport=rodrigues")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; found if not named")]


@app.command()
def run(
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    output: Annotated[Path, typer.Option(help="where the report goes")] = Path("report"),
    only: Annotated[list[str] | None, typer.Option(help="a notebook by its number, as 07; may be given again")] = None,
    figures: Annotated[Path | None, typer.Option(help="a folder that gets each notebook's picture")] = None,
) -> None:  # fmt: skip
    """Execute the ordered notebooks and write an offline report."""
    from vqlab.config import Config
    from vqlab.data import load_data
    from vqlab.report import run_notebooks

    # What cannot be read is told at once, not by every notebook in turn.
    load_data(Config.profile(profile, **{"data.source": data, "seed": seed}).data)
    parameters = {"profile": profile, "data": data, "seed": seed, "runs": str(runs.resolve())}
    index, failed = run_notebooks(parameters, output, print, figures=figures, only=only)
    print(f"report: {index}")
    if failed:
        raise typer.Exit(1)


@app.command()
def train(
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    device: Device = None,
    change: Changes = None,
) -> None:  # fmt: skip
    """Train one Config (or return its finished Run) and print the Run folder."""
    from vqlab.config import Config
    from vqlab.training import train as train_config
    from vqlab.training.progress import training_progress

    changes = {"data.source": data, "seed": seed, **dict(map(_key_value, change or []))}
    with training_progress() as progress:
        finished = train_config(Config.profile(profile, **changes), runs, device, progress)
    print(finished.folder)


@app.command()
def evaluate(
    folder: RunFolder, device: Device = None,
    inception: Annotated[bool | None, typer.Option(help="FID and KID too; found: on CUDA only")] = None,
) -> None:  # fmt: skip
    """Measure a Run on its test set and print the numbers as JSON."""
    from vqlab.training import Run

    print(json.dumps(Run.open(folder).evaluation(device, inception=inception), indent=2))


@app.command()
def sample(
    folder: RunFolder, device: Device = None, seed: Seed = 0,
    count: Annotated[int, typer.Option(help="images")] = 64,
    output: Annotated[Path, typer.Option(help="the picture, .png")] = Path("samples.png"),
    label: Annotated[int | None, typer.Option(help="priors: place of a class")] = None,
    temperature: Annotated[float | None, typer.Option(help="transformer: above 0")] = None,
    top_k: Annotated[int | None, typer.Option(help="transformer: only the k likeliest codes")] = None,
    top_p: Annotated[float | None, typer.Option(help="transformer: only the likeliest codes of this share")] = None,
) -> None:  # fmt: skip
    """Draw images from a Run (vae, gan or a prior) into one picture and print its path."""
    from vqlab.plots import sample_sheet
    from vqlab.training import Run

    given = {"label": label, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    how = {name: value for name, value in given.items() if value is not None}
    print(sample_sheet(Run.open(folder), count, output, seed=seed, device=device, **how))


SoFar = Annotated[bool, typer.Option("--so-far", help="train nothing, show what is finished")]


def _table_file(path: Path | None) -> Path | None:
    if path and path.suffix not in (".csv", ".md"):
        raise typer.BadParameter(f"{path}: its name must end with .csv or .md")
    return path


Table = Annotated[
    Path | None, typer.Option(callback=_table_file, help="gets the table: .csv the rows, .md what is printed")
]


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="reconstruction | transports | collapsing | generation | perceptual")],
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0,
    seeds: Annotated[int | None, typer.Option(min=1, help="how many, from --seed on; quick 2, else 3")] = None,
    runs: Runs = Path("runs"), device: Device = None, change: Changes = None, so_far: SoFar = False,
    table: Table = None,
) -> None:  # fmt: skip
    """Train what is missing of a study (the README's tables are such) and print its table with intervals."""
    from vqlab.studies.markdown import markdown
    from vqlab.studies.named import describe_differences, named_study, summary_table
    from vqlab.studies.study import profile_seeds

    chosen = range(seed, seed + seeds) if seeds else profile_seeds(profile, seed)
    asked = named_study(name, profile, chosen, **{"data.source": data, **dict(map(_key_value, change or []))})
    result = asked.table(runs) if so_far else asked.run(runs, device, _say)
    text = markdown(summary_table(name, result))
    if table:
        _write_table(table, result.rows, text)
    print(text)
    for line in describe_differences(result) if len(chosen) > 1 and name != "generation" else []:
        print(line)


Storage = Annotated[
    str | None, typer.Option(envvar="VQLAB_STORAGE", help="SQL URL that workers share; else RUNS/studies.journal")
]


@app.command()
def grid(
    name: Annotated[str, typer.Argument(help="utilisation | scaling | initialisation, or a name for your own axes")],
    axis: Annotated[list[str] | None, typer.Option(help="an axis of your own, as quantizer.decay=[0.95,0.99]")] = None,
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    device: Device = None, change: Changes = None, storage: Storage = None,
    retry: Annotated[bool, typer.Option("--retry", help="try points again whose training failed")] = False,
    so_far: SoFar = False,
    table: Table = None,
) -> None:  # fmt: skip
    """Train every point of a grid once and print the table; run it again, anywhere, to add a worker or resume."""
    from vqlab.studies import make_grid
    from vqlab.studies.markdown import markdown

    changes = {"data.source": data, "seed": seed, **dict(map(_key_value, change or []))}
    asked = make_grid(name, dict(map(_key_value, axis or [])), profile, **changes)
    if so_far:
        result = asked.table(runs, storage=storage)
    else:
        result = asked.run(runs, device, _say, storage=storage, retry=retry)
    text = markdown(result.formatted(), index=False)
    if table:
        _write_table(table, result.rows, text)
    print(text)
    print(f"best PSNR: {result.command()}")


@app.command()
def tune(
    trials: Annotated[int, typer.Option(min=1, help="how many Configs to try, all workers together")] = 20,
    over: Annotated[list[str] | None, typer.Option(help='quantizer.beta=[0.25,1] or {"low":0.1,"high":2}')] = None,
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    device: Device = None, change: Changes = None, storage: Storage = None,
) -> None:  # fmt: skip
    """Search for a Config with TPE and pruning; run it again, anywhere, to add a worker or resume."""
    from vqlab.config import Config
    from vqlab.studies import Tuning, parse_space

    changes = {"data.source": data, "seed": seed, **dict(map(_key_value, change or []))}
    tuning = Tuning("tune", Config.profile(profile, **changes), parse_space(dict(map(_key_value, over or []))), trials)
    study = tuning.run(runs, device, _say, storage=storage)
    command = tuning.command(study)
    print(f"best PSNR on the test images, {study.best_value:.2f} dB: {command}")


@app.command()
def doctor(
    folder: Annotated[Path, typer.Argument(metavar="RUN")],
    apply: Annotated[bool, typer.Option("--apply", help="train with the changes; show before and after")] = False,
    device: Device = None,
) -> None:
    """Name the symptoms in a Run's logs with their evidence, the likely cause and the change to try."""
    from vqlab.analysis import doctor as rules
    from vqlab.training import Run
    from vqlab.training.progress import training_progress

    asked = Run.open(folder)
    print(rules.report(asked))
    if apply:
        with training_progress() as progress:
            result = rules.apply(asked, device, progress)
        print(f"\n{result.table().to_string()}\nafter: {result.after.folder}")


@app.command()
def explore(
    folder: Annotated[Path, typer.Argument(metavar="RUN")],
    output: Annotated[Path | None, typer.Option(help="the page; RUN/explorer.html if not named")] = None,
) -> None:
    """Write one page of a Run (images, codes, usage) that works without Python, to mail or to keep."""
    from vqlab.report import write_explorer
    from vqlab.training import Run

    page = write_explorer(Run.open(folder), output or folder / "explorer.html")
    print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Option(help="where your notebooks are, or go; edits are kept")] = None,
) -> None:
    """Open JupyterLab at 00_start_here, on loopback, with Jupyter's own token; other options go to JupyterLab."""
    from vqlab.report import working_copy

    notebooks = working_copy(folder, print).resolve()
    start = ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={notebooks}"]
    page = "--LabApp.default_url=/lab/tree/00_start_here.ipynb"
    os.execvp(sys.executable, [sys.executable, "-m", "jupyter", "lab", *start, page, *context.args])


def _write_table(path: Path, rows: pd.DataFrame, text: str) -> None:
    if path.suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        path.write_text(text + "\n")


def _say(line: str) -> None:
    print(line, flush=True)


def _key_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text}: write it as section.field=value")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main() -> None:
    """Run the command; wrong input is one line on standard error and status 2."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except typer.TyperException as error:
        sys.exit(_refuse(f"{error.format_message()} See `vqlab --help`."))
    except typer.Abort:
        print("vqlab: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except InputError as error:
        sys.exit(_refuse(str(error)))
    except OSError as error:
        sys.exit(_refuse(f"{error.filename or 'a file'}: {error.strerror or error}; what was already written is kept"))


def _refuse(message: str) -> int:
    print("vqlab: " + " ".join(message.split()), file=sys.stderr)
    return 2
