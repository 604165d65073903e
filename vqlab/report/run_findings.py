"""Findings of the notebooks that measure single Runs and images: 00, 01, 03, 05, 07, 11 and 13."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vqlab.analysis.prior import MAX_NATS, NATS, prior_measures
from vqlab.analysis.samples import neighbour_distances
from vqlab.quantize.usage import bits_per_index
from vqlab.report.finding import Finding, Value
from vqlab.studies.published import PUBLISHED

if TYPE_CHECKING:
    import pandas as pd

    from vqlab.data import ImageData
    from vqlab.training import Run

# Below this share of codes in use a codebook is called collapsed, as in the rules of ``vqlab doctor``.
_HEALTHY_SHARE = 0.5
# Samples whose distance to training images is below this share of that of test images are called near copies.
_COPY_RATIO = 0.5


def reconstruction_finding(run: Run) -> Finding:
    """Say how much of its held-out images a VQ-VAE keeps (notebook 00).

    Args:
        run: a finished Run of a VQ-VAE.

    Returns:
        The finding; its headline is PSNR.

    Raises:
        InputError: if training has not finished, or the images cannot be read.
    """
    # Not the evaluation, which may train the feature classifier first: this is the first notebook.
    measured, config = run.last_epoch_metrics(), run.config
    codes = measured["tokens"] // measured["images"]
    code_bits = codes * bits_per_index(config.quantizer.num_codes)
    pixel_bits = 8 * math.prod(config.data.shape)
    sentence = (
        f"An image of {pixel_bits:,} bits is kept as {codes} codes of {code_bits:,.0f} bits together, and comes back "
        f"with a PSNR of {measured['psnr']:.1f} dB; {_describe_usage(measured)}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "PSNR": (measured["psnr"], "dB"),
        "SSIM": (measured["ssim"], ""),
        "codes in use": (100 * measured["utilisation"], "%"),
        "perplexity": (measured["perplexity"], f"of {config.quantizer.num_codes}"),
        "pixel bits per code bit": (pixel_bits / code_bits, ""),
    }
    return Finding(sentence, numbers, [run])


def images_finding(images: ImageData) -> Finding:
    """Say which images a model gets (notebook 01).

    Args:
        images: the images.

    Returns:
        The finding; its headline is the number of training images.
    """
    train, test = images.train, images.test
    trained, tested = set(train.labels.tolist()), set(test.labels.tolist())
    relation = (
        "the test images are of classes that the training images have, too"
        if tested <= trained
        else f"{len(tested - trained)} of the {len(tested)} classes of the test images have no training images, so "
        "the test measures images of things that were never seen"
    )
    height, width = train.pixels.shape[2:]
    sentence = (
        f"{len(train):,} training and {len(test):,} test images of {height} × {width} pixels from {images.name}; "
        f"{relation}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "training images": (len(train), ""),
        "test images": (len(test), ""),
        "classes": (len(trained | tested), ""),
        "image size": (height, "pixels" if height == width else f"× {width} pixels"),
    }
    return Finding(sentence, numbers, data=images)


def published_finding(run: Run, table: str = "paper, Table 2") -> Finding:
    """Say how a Run compares with a row of the paper (notebook 03).

    Args:
        run: a finished Run of a VQ-VAE.
        table: a key of ``vqlab.studies.PUBLISHED``.

    Returns:
        The finding; its headline is pooled PSNR, which is what the paper reports.

    Raises:
        InputError: if training has not finished, or the images cannot be read.
    """
    measured, published = run.evaluation(), PUBLISHED[table]
    change = measured["psnr_pooled"] - published["psnr_pooled"]
    images = "" if run.config.data.source == "cifar10" else f", on {measured['data']} instead of CIFAR-10"
    sentence = (
        f"Pooled PSNR is {measured['psnr_pooled']:.1f} dB, {abs(change):.1f} dB {'above' if change > 0 else 'below'} "
        f"that of the {table}{images}; {_describe_usage(measured)}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "pooled PSNR": (measured["psnr_pooled"], "dB"),
        f"pooled PSNR ({table})": (published["psnr_pooled"], "dB"),
        "SSIM": (measured["ssim"], ""),
        "perplexity": (measured["perplexity"], f"of {run.config.quantizer.num_codes}"),
        "training": (run.provenance["wall_seconds"], "s"),
    }
    return Finding(sentence, numbers, [run])


def angles_finding(medians: pd.DataFrame, healthy: Run, collapsed: Run) -> Finding:
    """Say by which angle RRT turns the gradient with a healthy and with a collapsed codebook (notebook 05).

    Args:
        medians: of ``vqlab.analysis.probe_medians`` with the rows "rotation, healthy" and "rotation, collapsed".
        healthy: the Run with the healthy codebook.
        collapsed: the Run with the collapsed codebook.

    Returns:
        The finding; its headline is the angle with the healthy codebook.
    """
    rows = medians.to_dict("index")
    turns = {state: rows[f"rotation, {state}"]["angle_gradients"] for state in ("healthy", "collapsed")}
    meaning = (
        "the more the codebook is collapsed, the more RRT differs from straight-through"
        if turns["collapsed"] > turns["healthy"]
        else "here a collapsed codebook does not make RRT differ more from straight-through"
    )
    sentence = (
        f"In the median RRT turns the gradient by {turns['healthy']:.1f}° with the healthy codebook and by "
        f"{turns['collapsed']:.1f}° with the collapsed one: {meaning}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "turn, healthy": (turns["healthy"], "°"),
        "turn, collapsed": (turns["collapsed"], "°"),
        "length ratio, healthy": (rows["rotation, healthy"]["length_ratio"], ""),
        "length ratio, collapsed": (rows["rotation, collapsed"]["length_ratio"], ""),
    }
    return Finding(sentence, numbers, [healthy, collapsed])


def usage_finding(with_restarts: Run, without_restarts: Run) -> Finding:
    """Say what restarts of dead codes change (notebook 07).

    Args:
        with_restarts: a Run with restarts.
        without_restarts: the same Config without them.

    Returns:
        The finding; its headline is the share of codes in use with restarts.

    Raises:
        InputError: if a Run has no finished epoch.
    """
    after, before = with_restarts.last_epoch_metrics(), without_restarts.last_epoch_metrics()
    effect = "raise" if after["utilisation"] > before["utilisation"] else "do not raise"
    change = after["psnr"] - before["psnr"]
    sentence = (
        f"Restarts {effect} the share of codes in use: it is {100 * after['utilisation']:.0f} % with them and "
        f"{100 * before['utilisation']:.0f} % without; PSNR is {abs(change):.2f} dB "
        f"{'higher' if change > 0 else 'lower'} with them (one seed, no interval)."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "codes in use": (100 * after["utilisation"], "%"),
        "codes in use, no restarts": (100 * before["utilisation"], "%"),
        "PSNR": (after["psnr"], "dB"),
        "PSNR, no restarts": (before["psnr"], "dB"),
        "perplexity": (after["perplexity"], f"of {with_restarts.config.quantizer.num_codes}"),
    }
    return Finding(sentence, numbers, [with_restarts, without_restarts])


def sampling_finding(prior: Run, count: int = 250) -> Finding:
    """Say what a prior has learned, and whether its samples are copies of training images (notebook 11).

    Args:
        prior: the finished Run of a transformer prior.
        count: number of samples, and of test images, that are compared with the training images.

    Returns:
        The finding; its headline is the cross-entropy of a code.

    Raises:
        InputError: if the Run is of another kind, has not finished training, or its images cannot be read.
    """
    import torch

    measured = prior_measures(prior)["measured"]
    nats, most = float(measured[NATS]), float(measured[MAX_NATS])
    neighbours = neighbour_distances(prior, torch.cat(list(prior.samples(count))))
    sample_distance, test_distance = (float(found.distances.median()) for found in neighbours.values())
    learned = (
        f"The prior has learned {most - nats:.2f} of ln K = {most:.2f} nats a code"
        if nats < most
        else f"The prior has learned nothing that holds for test images: {nats:.2f} nats a code, ln K is {most:.2f}"
    )
    ratio = sample_distance / test_distance
    copies = "near copies" if ratio < _COPY_RATIO else "no copies"
    sentence = (
        f"{learned}; its samples are {copies} of training images: their median distance to the nearest one is "
        f"{ratio:.2f} times that of test images."
    )
    numbers: dict[str, tuple[Value, str]] = {
        "cross-entropy": (nats, "nats a code"),
        "ln K": (most, "nats a code"),
        "sample FD-classifier": (float(measured["sample FD-classifier"]), ""),
        "distance of samples": (sample_distance, "RMS"),
        "distance of test images": (test_distance, "RMS"),
    }
    return Finding(sentence, numbers, [prior, prior.codec()])


def wrong_codes_finding(scores: pd.DataFrame, run: Run) -> Finding:
    """Say what wrong codes cost (notebook 13).

    Args:
        scores: of ``vqlab.analysis.wrong_code_scores`` with the row 0 and at least two others.
        run: the Run of the scores.

    Returns:
        The finding; its headline is the loss of PSNR at the smallest share of wrong codes.
    """
    psnr, ssim = scores["PSNR (dB)"].to_dict(), scores["SSIM"].to_dict()
    shares = sorted(float(percent) for percent in scores.index if percent)
    few, many = shares[0], shares[-1]
    losses = {percent: psnr[0] - psnr[percent] for percent in (few, many)}
    slope = (
        "the first wrong codes cost most" if losses[few] / few > losses[many] / many else "each further one costs more"
    )
    sentence = (
        f"With {few:g} % wrong codes PSNR is {losses[few]:.1f} dB lower, with {many:g} % it is {losses[many]:.1f} dB "
        f"lower: {slope}."
    )
    numbers: dict[str, tuple[Value, str]] = {
        f"loss at {few:g} %": (losses[few], "dB"),
        f"loss at {many:g} %": (losses[many], "dB"),
        "PSNR, right codes": (psnr[0], "dB"),
        "SSIM, right codes": (ssim[0], ""),
    }
    return Finding(sentence, numbers, [run])


def _describe_usage(measured: Mapping[str, Any]) -> str:
    share = f"{100 * measured['utilisation']:.0f} % of the codes are in use"
    if measured["utilisation"] < _HEALTHY_SHARE:
        return f"only {share}, so the codebook has collapsed"
    return share
