"""The ``vqlab`` command: parses arguments, calls the package, prints the result."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqlab.errors import FAILED, USAGE, InputError
from vqlab.exit_signals import RUN_AGAIN, SCHEDULED, stop_process
from vqlab.files import error_parts, output_file, output_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from vqlab.config import FieldDescription

app = typer.Typer(help="A lab for vector-quantized autoencoders. `vqlab config` lists every setting.")


def _complete_profile(incomplete: str) -> list[str]:
    from vqlab.config import PROFILES

    return [name for name in PROFILES if name.startswith(incomplete)]


def _complete_section(incomplete: str) -> list[str]:
    from vqlab.config import field_keys

    keys = field_keys()
    sections = [key.partition(".")[0] for key in keys]
    return [name for name in dict.fromkeys((*sections, *keys)) if name.startswith(incomplete)]


def _complete_setting(incomplete: str) -> list[str]:
    return [f"{key}=" for key in _complete_section(incomplete) if "." in key or key == "seed"]


def _complete_study(incomplete: str) -> list[str]:
    from vqlab.studies import STUDY_NAMES

    return [name for name in STUDY_NAMES if name.startswith(incomplete)]


def _complete_grid(incomplete: str) -> list[str]:
    from vqlab.studies import GRIDS

    return [name for name in GRIDS if name.startswith(incomplete)]


def _folder(text: str | Path) -> Path:
    """A folder that is checked before the work whose results go there."""
    return _checked(output_folder, text)


def _runs_folder(text: str | Path) -> Path:
    """A folder of Runs, which some commands only read."""
    return _checked(partial(output_folder, writable=False), text)


def _file(*suffixes: str) -> Callable[[str | Path], Path]:
    """Parser of a file that is checked before the work whose result it holds."""

    def path(text: str | Path) -> Path:
        if suffixes and Path(text).suffix not in suffixes:
            raise typer.BadParameter(f"{text}: must end in {' or '.join(suffixes)}; rename the file")
        return _checked(output_file, text)

    return path


def _checked(check: Callable[[str], Path], text: str | Path) -> Path:
    try:
        return check(str(text))
    except InputError as error:  # typer would replace the message of a ValueError by the value
        raise typer.BadParameter(str(error)) from None


Profile = Annotated[
    str, typer.Option(help="named settings: quick, paper, best, best-long or gpu", autocompletion=_complete_profile)
]
Data = Annotated[str, typer.Option(help="photos, cifar10 or folder:PATH (a folder, archive or list of images)")]
Seed = Annotated[int, typer.Option(help="seed of every random generator")]
Seeds = Annotated[int | None, typer.Option(min=1, max=1000, help="number of seeds from --seed on; quick 2, else 3")]
Runs = Annotated[Path, typer.Option(parser=_runs_folder, help="folder of the Run folders")]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="change a setting, as quantizer.transport=rodrigues; repeatable", autocompletion=_complete_setting
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a Run, as `vqlab train` prints it")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, …; CUDA if available, else CPU, if not given")]
Force = Annotated[bool, typer.Option("--force", help="train although the memory is estimated to be too small")]
MaxHours = Annotated[
    float | None,
    typer.Option(
        min=1e-6, max=100_000, callback=lambda hours: _limit_hours(hours) or hours,
        help="stop with a checkpoint after so many hours, with exit status 75: the same command goes on",
    ),
]  # fmt: skip
SoFar = Annotated[bool, typer.Option("--so-far", help="train nothing; show the finished Runs")]
Table = Annotated[
    Path | None,
    typer.Option(
        parser=_file(".csv", ".md"),
        help="write the table: .csv for the rows, .md for the printed table",
    ),
]
TestData = Annotated[
    str | None, typer.Option(help="measure the test images of another source, as folder:PATH; pixels and codes only")
]
Storage = Annotated[
    str | None,
    typer.Option(envvar="VQLAB_STORAGE", help="SQL URL shared by all workers; RUNS/studies.journal if not given"),
]


@app.command()
def run(
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    output: Annotated[Path, typer.Option(parser=_folder, help="folder of the report")] = Path("report"),
    only: Annotated[list[str] | None, typer.Option(help="number of a notebook, as 07; repeatable")] = None,
    figures: Annotated[
        Path | None, typer.Option(parser=_folder, help="folder for the main figure of each notebook")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="notebooks at a time; one for each core")] = None,
    open_index: Annotated[bool, typer.Option("--open", help="open the report in a browser at the start")] = False,
) -> None:  # fmt: skip
    """Execute the notebooks, several at a time, and write an offline report."""
    from vqlab.report import run_notebooks

    parameters = {
        "profile": profile,
        "data": _checked_data(profile, data, seed),
        "seed": seed,
        "runs": str(runs.resolve()),
    }
    on_index = (lambda index: typer.launch(str(index))) if open_index else None
    _, failed = run_notebooks(
        parameters, output, _print_now, figures=figures, only=only, processes=processes, on_index=on_index
    )
    if failed:
        raise typer.Exit(1)


def _checked_data(profile: str, source: str, seed: int) -> str:
    """The data with an absolute path; InputError for a wrong profile, seed or unreadable data before notebooks run."""
    if (profile, source) == ("quick", "photos") and seed >= 0:
        return source  # Both are part of vqlab, and the check imports torch, which takes seconds.
    from vqlab.config import Config
    from vqlab.data import load_data

    config = Config.profile(profile, **{"data.source": source, "seed": seed})
    load_data(config.data)
    return config.data.source


@app.command()
def train(
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    device: Device = None, change: Changes = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="train again, as on other images; the earlier Run is kept beside it")
    ] = False,
    force: Force = False, max_hours: MaxHours = None,
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="processes of this machine that train together")
    ] = 1,
) -> None:  # fmt: skip
    """Train one Config, or return its finished Run, and print the folder of the Run."""
    from vqlab.config import Config
    from vqlab.training import train as train_config
    from vqlab.training.progress import training_progress
    from vqlab.training.workers import is_main_process

    config = Config.profile(profile, **_changes(data, seed, change))
    with training_progress() as progress:
        finished = train_config(config, runs, device, progress, retrain=retrain, force=force, processes=processes)
    if not is_main_process():
        return
    for note in finished.provenance.get("data_notes", []):
        print(note, file=sys.stderr)
    print(finished.folder)


@app.command()
def data(
    source: Annotated[
        str | None, typer.Argument(help="path of a folder, archive or list of images; photos or cifar10")
    ] = None,
    change: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    sheet: Annotated[Path | None, typer.Option(parser=_file(), help="write a PNG with images of each part")] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="first remove all decoded images from the cache folder")
    ] = False,
) -> None:
    """Tell what would be read from a source: parts, classes, sizes, what is skipped, memory and fingerprint."""
    if clear:
        _clear_images()
    if source is None:
        if not clear:
            raise typer.BadParameter("give a SOURCE, or --clear")
        return
    from vqlab.config import Config
    from vqlab.data.summary import contact_sheet, summarise_data

    known = source in ("photos", "cifar10") or source.startswith("folder:")
    changes = _changes(source if known else f"folder:{source}", 0, change)
    summary, images = summarise_data(Config.profile("quick", **changes).data.model_copy(
        update={"train_limit": None, "test_limit": None}
    ))  # fmt: skip
    print(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False) if as_json else summary)
    if sheet:
        contact_sheet(images).save(sheet)


def _clear_images() -> None:
    from vqlab.data.image_cache import clear_image_cache, image_cache_folder

    count, size = clear_image_cache()
    print(
        f"{count} sets of decoded images removed from {image_cache_folder()}, {size / 2**30:.2f} GiB", file=sys.stderr
    )


@app.command()
def evaluate(
    folder: RunFolder, device: Device = None,
    inception: Annotated[bool | None, typer.Option(help="FID and KID too; on CUDA only if not given")] = None,
    test_data: TestData = None,
) -> None:  # fmt: skip
    """Measure a Run on its test images, or on those of another source, and print the metrics as JSON."""
    from vqlab.training import Run
    from vqlab.training.workers import join_workers

    run, workers = Run.open(folder), join_workers(device)
    if test_data:
        columns = run.evaluation_on(test_data, workers=workers)
    else:
        columns = run.evaluation(inception=inception, workers=workers)
    if workers.is_main:
        print(json.dumps(columns, indent=2))


@app.command()
def sample(
    folder: RunFolder, device: Device = None, seed: Seed = 0,
    count: Annotated[int, typer.Option(help="number of images")] = 64,
    output: Annotated[Path, typer.Option(parser=_file(), help="the picture to write, .png")] = Path("samples.png"),
    label: Annotated[int | None, typer.Option(help="priors: index of a class")] = None,
    temperature: Annotated[float | None, typer.Option(help="transformer: above 0")] = None,
    top_k: Annotated[int | None, typer.Option(help="transformer: sample from the k likeliest codes")] = None,
    top_p: Annotated[float | None, typer.Option(help="transformer: sample from the codes of this probability")] = None,
) -> None:  # fmt: skip
    """Draw images from a VAE, a GAN or a prior, write them as one picture and print its path."""
    from vqlab.plots import save_samples
    from vqlab.training import Run

    options = {"label": label, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    settings = {name: value for name, value in options.items() if value is not None}
    print(save_samples(Run.open(folder), count, output, seed=seed, device=device, **settings))


@app.command()
def study(
    name: Annotated[
        str,
        typer.Argument(
            help="reconstruction, transports, collapsing, generation, perceptual, factors, rotation, recipe, families, "
            "families_double, rules or health",
            autocompletion=_complete_study,
        ),
    ],
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0,
    seeds: Seeds = None,
    runs: Runs = Path("runs"), device: Device = None, change: Changes = None, so_far: SoFar = False,
    table: Table = None, test_data: TestData = None, force: Force = False, max_hours: MaxHours = None,
) -> None:  # fmt: skip
    """Train the missing Runs of a named study and print its table with intervals."""
    from vqlab.studies import (
        claims_beside_measured,
        describe_differences,
        named_study,
        profile_seeds,
        summary_table,
        to_markdown,
    )
    from vqlab.studies.failed_rows import check_rows

    selected_seeds = range(seed, seed + seeds) if seeds else profile_seeds(profile, seed)
    changes = _changes(data, None, change)
    requested = replace(named_study(name, profile, selected_seeds, **changes), test_source=test_data)
    result = requested.table(runs) if so_far else requested.run(runs, device, _print_now, force=force)
    for line in result.left_out() if so_far else []:
        print(line, file=sys.stderr)
    speed = result.time_to_psnr()
    text = to_markdown(summary_table(name, result))
    text += f"\n\n{to_markdown(speed)}" if len(speed.columns) > 1 else ""
    if table:
        _write_table(table, result.rows, text)
    print(text)
    for line in describe_differences(result) if len(selected_seeds) > 1 and name != "generation" else []:
        print(line)
    if name == "families" and len(selected_seeds) > 1:
        claims = claims_beside_measured(result).reset_index()
        print(f"\nPublished beside measured:\n\n{to_markdown(claims, index=False)}")
    if not so_far:
        check_rows(result.rows, f"study {name}")


@app.command()
def grid(
    name: Annotated[
        str,
        typer.Argument(
            help="utilisation, scaling or initialisation; any name with --axis", autocompletion=_complete_grid
        ),
    ],
    axis: Annotated[list[str] | None, typer.Option(help="own axis, as quantizer.decay=[0.95,0.99]; repeatable")] = None,
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    device: Device = None, change: Changes = None, storage: Storage = None,
    retry: Annotated[bool, typer.Option("--retry", help="train failed points again")] = False,
    so_far: SoFar = False,
    table: Table = None, force: Force = False, max_hours: MaxHours = None,
) -> None:  # fmt: skip
    """Train every point of a grid once and print its table; run it again, anywhere, to resume or add a worker."""
    from vqlab.studies import make_grid, to_markdown
    from vqlab.studies.failed_rows import check_rows

    requested = make_grid(name, dict(map(_key_value, axis or [])), profile, **_changes(data, seed, change))
    if so_far:
        result = requested.table(runs, storage=storage)
    else:
        result = requested.run(runs, device, _print_now, storage=storage, retry=retry, force=force)
    text = to_markdown(result.formatted(), index=False)
    if table:
        _write_table(table, result.rows, text)
    print(text)
    print(f"best PSNR on the held-out images: {result.best_command()}")
    if not so_far:
        check_rows(result.rows, f"grid {name}")


@app.command()
def tune(
    trials: Annotated[int, typer.Option(min=1, help="number of trials of all workers together")] = 20,
    over: Annotated[
        list[str] | None,
        typer.Option(help='values to search, as quantizer.beta=[0.25,1] or {"low":0.1,"high":2}; repeatable'),
    ] = None,
    profile: Profile = "quick", data: Data = "photos", seed: Seed = 0, runs: Runs = Path("runs"),
    device: Device = None, change: Changes = None, storage: Storage = None, force: Force = False,
    max_hours: MaxHours = None,
) -> None:  # fmt: skip
    """Search for a Config with TPE and pruning; run it again, anywhere, to resume or add a worker."""
    from vqlab.config import Config
    from vqlab.data.validation import with_validation
    from vqlab.studies import Tuning, parse_space

    base = with_validation(Config.profile(profile, **_changes(data, seed, change)))
    tuning = Tuning("tune", base, parse_space(dict(map(_key_value, over or []))), trials)
    finished = tuning.run(runs, device, _print_now, storage=storage, force=force)
    command = tuning.best_command(finished)
    print(f"best PSNR on the held-out images, {finished.best_value:.2f} dB: {command}")


@app.command()
def bench(
    codes: Annotated[list[int] | None, typer.Option(min=1, help="number of codes; repeatable")] = None,
    dim: Annotated[list[int] | None, typer.Option(min=1, help="channels of a code; repeatable")] = None,
    vectors: Annotated[int, typer.Option(min=1, help="vectors of a step")] = 8192,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="number of threads; repeatable; 1 and 2")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="steps of each, of which the median is printed")] = 7,
    device: Device = None, table: Table = None,
) -> None:  # fmt: skip
    """Time the quantizer beside vector-quantize-pytorch, if installed, and beside plain operations."""
    from vqlab.analysis import layer_benchmark as benchmark
    from vqlab.studies import to_markdown

    sizes = [benchmark.LayerSize(k, d, vectors) for d in dim or [64] for k in codes or [1024]]
    sizes = sizes if codes or dim else [size._replace(vectors=vectors) for size in benchmark.SIZES]
    rows = benchmark.benchmark_layer(sizes, threads or (1, 2), rounds, device)
    text = f"{to_markdown(rows.rename(columns=benchmark.COLUMNS), index=False)}\n\n{benchmark.benchmark_versions()}"
    if table:
        _write_table(table, rows, text)
    print(text)


@app.command()
def doctor(
    folder: RunFolder,
    apply: Annotated[bool, typer.Option("--apply", help="train with the changes; print before and after")] = False,
    device: Device = None,
    force: Force = False,
) -> None:
    """Diagnose the codebook of a Run from its logs: symptoms, evidence, likely cause, change to try."""
    from vqlab.analysis import doctor as diagnosis
    from vqlab.training import Run
    from vqlab.training.progress import training_progress

    examined = Run.open(folder)
    print(diagnosis.diagnosis_text(examined))
    if apply:
        with training_progress() as progress:
            result = diagnosis.apply_changes(examined, device, progress, force=force)
        print(f"\n{result.table().to_string()}\nafter: {result.after.folder}")


@app.command()
def reproduce(
    folder: RunFolder,
    runs: Annotated[Path, typer.Option(parser=_folder, help="folder for the new Run")] = Path("reproduced"),
    device: Annotated[str | None, typer.Option(help="cpu, cuda, …; that of the Run if not given")] = None,
    force: Force = False,
) -> None:
    """Train the Config of a Run again elsewhere, and compare weights and numbers; status 1 if they differ."""
    from vqlab.analysis.reproduction import reproduce as reproduce_run
    from vqlab.training import Run
    from vqlab.training.progress import training_progress

    with training_progress() as progress:
        result = reproduce_run(Run.open(folder), runs, device, progress, force=force)
    print(f"{result.numbers.to_string()}\n\n{result.conditions().to_string()}\n\n{result.sentence()}")
    if not result.reproduced:
        raise typer.Exit(1)


@app.command()
def explore(
    folder: RunFolder,
    output: Annotated[
        Path | None, typer.Option(parser=_file(), help="the page to write; RUN/explorer.html if not given")
    ] = None,
) -> None:
    """Write one page of a Run (images, codes, usage) that needs no Python and no server."""
    from vqlab.report import write_run_page
    from vqlab.training import Run

    page = write_run_page(Run.open(folder), output or folder / "explorer.html")
    print(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)")


@app.command()
def runs(
    runs: Runs = Path("runs"),
    where: Annotated[
        list[str] | None,
        typer.Option(help="a column or setting compared with a value, as psnr>26 or state=finished; repeatable"),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="a column, or -COLUMN for the largest first; newest first")] = None,
    table: Table = None,
) -> None:
    """List the Runs of a folder: state, kind, codes, data, numbers, size and age."""
    from vqlab.analysis.run_list import LABELS, list_runs
    from vqlab.studies.markdown import to_markdown

    found = list_runs(runs, where or (), sort)
    text = to_markdown(found.rename(columns=LABELS).dropna(axis="columns", how="all").fillna(""), index=False)
    print(text if len(found) else f"{runs}: no such Run")
    if table:
        _write_table(table, found, text)


@app.command()
def compare(one: RunFolder, other: RunFolder, table: Table = None) -> None:
    """Put two Runs side by side: the settings that differ, and their numbers."""
    from vqlab.analysis.run_list import compare_runs
    from vqlab.studies.markdown import to_markdown

    found = compare_runs(one, other)
    text = to_markdown(found.fillna(""))
    print(text)
    if table:
        _write_table(table, found.rename_axis("setting or number").reset_index(), text)


@app.command()
def remove(
    folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="folders of Runs")],
    yes: Annotated[bool, typer.Option("--yes", help="remove without a question")] = False,
) -> None:
    """Remove Runs with all their files, after a question."""
    from vqlab.training.removal import check_is_run, remove_run

    for folder in folders:
        check_is_run(folder)
    for folder in folders:
        files = [path for path in folder.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 2**20
        if yes or typer.confirm(f"remove {folder} ({len(files)} files, {size:.1f} MiB)?"):
            remove_run(folder)
            print(f"removed: {folder}")


@app.command()
def push(
    folder: RunFolder,
    address: Annotated[
        str, typer.Argument(help="a folder for Runs that fsspec can write, as s3://bucket/runs or a path")
    ],
) -> None:
    """Copy a Run as a whole to another place, with digests, and print its address there."""
    from vqlab.training.transfer import push_run

    print(push_run(folder, address))


@app.command()
def pull(
    address: Annotated[str, typer.Argument(metavar="ADDRESS/ID", help="address of a Run, as `vqlab push` prints it")],
    runs: Annotated[Path, typer.Option(parser=_folder, help="folder of the Run folders")] = Path("runs"),
) -> None:
    """Copy a Run from the place where `vqlab push` put it, verify it, and print its folder."""
    from vqlab.training.transfer import pull_run

    print(pull_run(address, runs))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Option(parser=_folder, help="folder of your notebooks; existing ones are kept")
    ] = None,
) -> None:
    """Open JupyterLab with the notebooks, on loopback, with a token; other options are passed to JupyterLab."""
    from vqlab.report import server_options, working_copy

    notebooks = working_copy(folder, print).resolve()
    page = "--LabApp.default_url=/lab/tree/00_start_here.ipynb"
    os.execvp(sys.executable, [sys.executable, "-m", "jupyter", "lab", *server_options(context.args, notebooks), page])


@app.command()
def config(
    section: Annotated[
        str | None,
        typer.Argument(help="a section, as quantizer, or one key; all if not given", autocompletion=_complete_section),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """List the settings: key, default, allowed values, meaning, and the values of the profiles."""
    from dataclasses import asdict

    from vqlab.config import describe_fields

    fields = describe_fields(section)
    if as_json:
        print(json.dumps([asdict(field) for field in fields], indent=2, ensure_ascii=False))
    else:
        _print_settings(fields)


def _print_settings(fields: list[FieldDescription]) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    table = RichTable(
        "key", "default", "profiles", "allowed", "meaning", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for field in fields:
        profiles = ", ".join(f"{name} {_value_text(value)}" for name, value in field.profiles.items())
        table.add_row(field.key, _value_text(field.default), profiles, field.allowed, field.meaning)
    notes = _precision_notes() if any(field.key == "optim.precision" for field in fields) else []
    console = Console(highlight=False)
    # A pipe has no width of its own: one line for each setting, so that grep finds all of it.
    console.print(table) if console.is_terminal else Console(highlight=False, width=250).print(table)
    for note in notes:
        print(note)


def _precision_notes() -> list[str]:
    from vqlab.training.device import slow_precision

    return [note for precision in ("bf16", "fp16") if (note := slow_precision(precision))]


def _value_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _write_table(path: Path, rows: pd.DataFrame, text: str) -> None:
    if path.suffix == ".csv":
        rows.to_csv(path, index=False)
    else:
        path.write_text(text + "\n")


def _print_now(line: str) -> None:
    print(line, flush=True)


def _changes(data: str, seed: int | None, settings: list[str] | None) -> dict[str, Any]:
    """Changes to a profile: the data source, the seed, and each ``--set``."""
    seeds = {} if seed is None else {"seed": seed}
    return {"data.source": data, **seeds, **dict(map(_key_value, settings or []))}


def _key_value(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{text}: must be KEY=VALUE, as quantizer.decay=0.95; `vqlab config` lists the keys")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main() -> None:
    """Run the command; an error is one line on standard error, with the exit status of ``vqlab.errors``."""
    earlier = {number: signal.signal(number, stop_process) for number in (signal.SIGTERM, *SCHEDULED)}
    try:
        status = _run_command()
        if os.environ.get("WORLD_SIZE", "1") != "1":
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)  # Threads of the process group may abort a process that ends as usual.
        sys.exit(status)
    finally:
        _limit_hours(0)
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _run_command() -> int:
    """Run the command and return its exit status."""
    command, processes = sys.argv[1:2], os.environ.get("WORLD_SIZE", "1")
    if processes != "1" and command not in (["train"], ["evaluate"]):
        return _print_error(
            f"{' '.join(command)}: runs in one process, not {processes}; only `vqlab train` and `vqlab evaluate` share",
            USAGE,
        )
    try:
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.TyperException as error:
        return _print_error(f"{error.format_message()} See `vqlab --help`.", USAGE)
    except InputError as error:
        return _print_error(str(error), error.exit_status)
    except OSError as error:
        return _print_error(f"{': '.join(error_parts(error))}; files that were already written are kept", FAILED)
    except typer.Abort as error:
        return _print_error(
            f"unexpected end of a file ({error.__cause__!r}); files that were already written are kept", FAILED
        )
    except SystemExit as ended:
        if ended.code not in (128 + signal.SIGTERM, RUN_AGAIN):
            raise
        status = ended.code
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM, RUN_AGAIN):
        print("vqlab: stopped; run the same command again to go on from the last checkpoint", file=sys.stderr)
    return int(status or 0)


def _limit_hours(hours: float | None) -> None:
    """Stop the command in order after some hours; 0 takes a limit back."""
    if hours is not None and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 3600 * hours)


def _print_error(message: str, status: int) -> int:
    text = " ".join(word if len(word) <= 500 else f"{word[:80]}…" for word in message.split())
    print(f"vqlab: {text if len(text) <= 1500 else f'{text[:1000]} … {text[-400:]}'}", file=sys.stderr)
    return status
