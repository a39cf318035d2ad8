"""python -m eclipse_pl compare: runs and scorecards in common tables, printed and as a page with their images."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from eclipse_pl.command_line import answer_in_one_sentence
from eclipse_pl.files import write_atomically
from eclipse_pl.reports.caveats.caveats import caveats
from eclipse_pl.reports.gallery.copies import FOLDER, PAGE, remove_others, require_own, write_copies
from eclipse_pl.reports.gallery.gallery import MOST_IMAGES, Gallery
from eclipse_pl.reports.images import IMAGES
from eclipse_pl.reports.latent_tables import cost_table
from eclipse_pl.reports.metrics import BY_NAME, DISTRIBUTION, HEADLINE, METRICS, Metric
from eclipse_pl.reports.numbers_file import numbers_csv
from eclipse_pl.reports.page import write_page
from eclipse_pl.reports.parameter_plot import parameter_plot
from eclipse_pl.reports.report import Report
from eclipse_pl.reports.tables import show_sentences, show_tables


def main(args: list[str] | None = None) -> None:
    """Compare, print, and write the files of the options."""
    args = sys.argv[1:] if args is None else args
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m eclipse_pl compare",
        description="Runs that differ in nothing but their seeds are one variant; variants are compared by paired seeds.",
    )
    help_runs = "folders of runs or of `benchmark`, folders above them, or globs in quotes"
    parser.add_argument("runs", nargs="+", metavar="RUN", help=help_runs)
    help_out = f"folder of {PAGE} and {FOLDER}/ (default: compare); with --single-file the file (default: compare.html)"
    parser.add_argument("--out", metavar="PLACE", type=Path, help=help_out)
    help_single = f"write one file that holds some of the images, small; {FOLDER}/ holds all of them as they are"
    parser.add_argument("--single-file", action="store_true", help=help_single)
    help_reference = "the variant, or a part of its name, that the others are compared with (default: the first one)"
    parser.add_argument("--reference", metavar="NAME", help=help_reference)
    help_vary = (
        "settings that you study, such as decoder.guidance: variants are named after them, and decoders may differ in them; "
        "other prompts, pairs or shards of the measurement are refused even with it"
    )
    parser.add_argument("--vary", metavar="KEY[,KEY]", default="", help=help_vary)
    headline = ",".join([*HEADLINE, *(metric.name for metric in DISTRIBUTION)])
    help_metrics = f"columns of the latent tables; a table of which none is named keeps its own (default: {headline})"
    parser.add_argument("--metrics", default=headline, help=help_metrics)
    help_images = (
        f"prompts of each category whose images the page shows (default: all, or as many as make {MOST_IMAGES} images; with "
        f"--single-file {IMAGES}; 0 for none)"
    )
    parser.add_argument("--images", metavar="N", type=int, help=help_images)
    parser.add_argument("--anyway", action="store_true", help="compare and mark what cannot be compared fairly")
    parser.add_argument("--csv", metavar="FILE", type=Path, help="write all numbers there")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown, for a README")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="draw --y against --x: .png, .pdf or .svg")
    parser.add_argument("--x", metavar="PARAMETER", help="for --plot: a key in which configs differ, or a cost")
    parser.add_argument("--y", metavar="METRIC", help="for --plot: unseen/cosine, benchmark/colour/oracle or the like")
    answer_in_one_sentence(parser, args)
    options = parser.parse_args(args)
    metrics = metrics_of(options.metrics)
    if options.images is not None and options.images < 0:
        raise ValueError(f"--images is {options.images}; it must be 0 or more.")
    if (options.plot is not None) != (options.x is not None) or (options.x is not None) != (options.y is not None):
        raise ValueError("--plot, --x and --y go together: --plot FILE.png --x PARAMETER --y METRIC.")
    out = place_of(options.out, options.single_file)
    vary = [key for key in options.vary.split(",") if key]
    columns = [metric for metric in metrics if metric in METRICS] or [BY_NAME[name] for name in HEADLINE]
    sampled = [metric for metric in metrics if metric in DISTRIBUTION]
    report = Report.of(options.runs, options.reference, options.anyway, columns, options.images, vary, sampled or DISTRIBUTION)
    if sampled and report.distribution is None and options.metrics != headline:
        raise ValueError(
            f"--metrics {','.join(metric.name for metric in sampled)}: no run was measured with latent.samples, which these "
            "metrics need. Measure the runs again with `validate --latent.samples 8`, and compare the new runs."
        )
    command = shlex.join(["python", "-m", "eclipse_pl", "compare", *args])
    gallery = None if options.single_file else Gallery.of(report)
    page = out if options.single_file else out / PAGE
    written = {"--out": (page, write_page(report, command, gallery).encode())}
    if options.csv is not None:
        written["--csv"] = (options.csv, numbers_csv(report).encode())
    if options.plot is not None:
        written["--plot"] = (options.plot, parameter_plot(report, options.x, options.y, options.plot.suffix))
    if options.markdown:
        print(report.markdown)
    else:
        from rich.console import Console

        console = Console(width=None if Console().is_terminal else 160, highlight=False)
        show_tables(console, [*report.tables, *([cost_table(report.latent)] if report.latent else [])])
        problems = [problem.sentence for problem in report.comparison.problems]
        show_sentences(console, {"Not a fair comparison (†)": problems, **caveats(report)})
    if gallery is not None:
        write_images(out, gallery.files)
    for option, (path, content) in written.items():
        write(path, content, option)
        print(path, file=sys.stderr)
    if not options.single_file:
        remove_others(out, gallery.files if gallery else {})


def metrics_of(names: str) -> tuple[Metric, ...]:
    chosen = names.split(",")
    if unknown := [name for name in chosen if name not in BY_NAME]:
        raise ValueError(f"--metrics: {', '.join(unknown)} is no metric; the metrics are {', '.join(BY_NAME)}.")
    return tuple(BY_NAME[name] for name in chosen)


def place_of(out: Path | None, single_file: bool) -> Path:
    """The folder of the page and its images, or the file that holds all.

    Raises:
        ValueError: It is a file instead of a folder, or a folder that holds other images.
    """
    if single_file:
        return out or Path("compare.html")
    out = out or Path("compare")
    if out.suffix == ".html":
        raise ValueError(
            f"--out is {out}, which names a file. The page and its images are a folder, such as {out.with_suffix('')}; with "
            "--single-file they are one file."
        )
    require_own(out)
    return out


def write_images(folder: Path, files: Mapping[str, Path]) -> None:
    try:
        write_copies(folder, files)
    except OSError as error:
        raise ValueError(f"Cannot write to {folder} ({error.strerror}). Choose another folder with --out.") from error


def write(path: Path, content: bytes, option: str) -> None:
    """Write a file, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise ValueError(f"Cannot write {path} ({error.strerror}). Choose another file with {option}.") from error
