"""Codebook rules: what a publication adds to nearest codes and their update, as one class and one decorator.

A rule has up to three hooks, which the layer calls in training mode only: ``choose`` selects the codes, ``loss`` adds
a term to the loss, and ``after_step`` changes the codes from the batch. The rules of this package are in
``vqlab.quantize.rules``, a file each.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vqlab.errors import InputError
from vqlab.quantize.codebook import Codebook
from vqlab.quantize.float32_state import Float32State
from vqlab.quantize.ranks import is_distributed
from vqlab.quantize.rule_batch import RuleBatch, RuleStep

NO_RULE = "none"


Choice = tuple[Tensor, Tensor | None]
Needs = Mapping[str, tuple[str | None, str]]


class CodebookRule(Float32State):
    """The base of all codebook rules; a rule overrides the hooks that it needs.

    State of a rule is in buffers and parameters of its own, so ``state_dict``, copies and resumed Runs have it.
    Buffers must be registered by the rule itself, not by a submodule of it.

    Args:
        num_codes: K, the number of codes.
        dim: C, the channels of a code.

    Attributes:
        name: Value of ``rule=`` that selects the rule; set by ``register_rule``.
        source: Authors, title and year of the publication; set by ``register_rule``.
        weight: Weight of the term of ``loss`` as published; None for a rule without a term.
        replaces_terms: Whether the term takes the place of the layer's commitment and codebook terms.
        needs: Options of the layer that the rule needs: the value, and the reason.
        num_codes: As the argument.
        dim: As the argument.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    weight: ClassVar[float | None] = None
    replaces_terms: ClassVar[bool] = False
    needs: ClassVar[Needs] = {}

    def __init__(self, num_codes: int, dim: int) -> None:
        super().__init__()
        self.num_codes, self.dim = num_codes, dim
        self._before: dict[str, Tensor | None] = {}

    def choose(self, step: RuleStep) -> Choice | None:
        """Choose the codes of the vectors.

        Args:
            step: The training step.

        Returns:
            Indices, (N,), and either the rows for the decoder, (N, C), or None for the codes with the layer's
            transport. Default None: the nearest codes.
        """
        return None

    def loss(self, step: RuleStep, batch: RuleBatch) -> Float[Tensor, ""]:
        """Compute the term that the layer adds to its loss with ``rule_weight``; called if ``weight`` is not None.

        Args:
            step: The training step.
            batch: The codes of its vectors.

        Returns:
            Scalar.
        """
        return step.e.sum() * 0

    def after_step(self, step: RuleStep, batch: RuleBatch, book: Codebook) -> None:
        """Change the codes, or the state of the rule, after the layer's own update; called without gradients.

        Args:
            step: The training step.
            batch: The codes of its vectors; under torch.distributed its counts and sums are those of all ranks.
            book: The codebook; ``move_codes`` changes the codes and what the EMA holds of them.
        """

    @torch.no_grad()
    def finish_step(self, step: RuleStep, batch: RuleBatch, book: Codebook) -> None:
        """Call ``after_step``, and keep the buffers of before for a pass that activation checkpointing repeats.

        Args:
            step: The training step.
            batch: The codes of its vectors.
            book: The codebook.
        """
        if len(step.e) == 0 and not is_distributed():
            return
        if not torch.compiler.is_compiling():
            self._before = {name: None if buffer is None else buffer.clone() for name, buffer in self._buffers.items()}
        self.after_step(step, batch, book)

    def before_last_step(self) -> Self:
        """Return the rule as it was before the last training step.

        Returns:
            A rule with the parameters of this one and the buffers of before.
        """
        view = copy.copy(self)
        view._buffers = {**self._buffers, **self._before}
        return view


_REGISTRY: dict[str, type[CodebookRule]] = {}
Rule = TypeVar("Rule", bound=type[CodebookRule])


def register_rule(name: str, *, source: str = "") -> Callable[[Rule], Rule]:
    """Register a class as a codebook rule; use as a decorator.

    An existing entry of the same name is replaced.

    Args:
        name: Name of the rule, then valid as ``rule=`` of ``VectorQuantizer`` and as ``quantizer.rule`` of a Config.
        source: Authors, title and year of the publication. Default: empty.

    Returns:
        A decorator that registers the class and returns it.

    Raises:
        InputError: if the name is ``"none"``, which stands for no rule.

    Example:
        >>> @register_rule("towards_zero", source="an example")
        ... class TowardsZero(CodebookRule):
        ...     weight = 0.1
        ...     def loss(self, step, batch):
        ...         return step.codes.square().mean()
        >>> "towards_zero" in rule_names()
        True
        >>> del _REGISTRY["towards_zero"]
    """
    if name == NO_RULE:
        raise InputError(f"rule name {name!r}: stands for no rule; use another name")

    def add(rule: Rule) -> Rule:
        rule.name, rule.source = name, source
        _REGISTRY[name] = rule
        return rule

    return add


def rule_names() -> tuple[str, ...]:
    """List the names of all registered rules.

    Returns:
        ``"none"``, then the names in the order of registration.

    Example:
        >>> rule_names()[0]
        'none'
    """
    return (NO_RULE, *_REGISTRY)


def get_rule(name: str) -> type[CodebookRule] | None:
    """Look up a registered rule.

    Args:
        name: Name of the rule.

    Returns:
        The class, or None for ``"none"``.

    Raises:
        InputError: if no rule of this name is registered; the message lists the names.

    Example:
        >>> get_rule("none") is None
        True
    """
    if name not in rule_names():
        raise InputError(f"rule={name!r}: must be one of {', '.join(rule_names())}")
    return _REGISTRY.get(name)


def check_rule(rule: str | CodebookRule, weight: float | None, **options: Any) -> None:
    """Check that a rule can be combined with the options of a layer.

    Args:
        rule: Name of the rule, or the rule.
        weight: Weight of its term; None for that of the publication.
        **options: Options of the layer by name, as far as they are known.

    Raises:
        InputError: if the rule is unknown, an option is not the one that it needs, or the weight is out of range or
            has no effect.

    Example:
        >>> check_rule("region", None, update="ema")
        Traceback (most recent call last):
            ...
        vqlab.errors.InputError: update='ema' with rule='region': its term trains the codes; use update='gradient'
    """
    entry = get_rule(rule) if isinstance(rule, str) else type(rule)
    name = rule if isinstance(rule, str) else rule.name
    for option, (value, reason) in ({} if entry is None else entry.needs).items():
        if option in options and options[option] != value:
            raise InputError(f"{option}={options[option]!r} with rule={name!r}: {reason}; use {option}={value!r}")
    if weight is None:
        return
    if entry is None or entry.weight is None:
        raise InputError(f"rule_weight={weight} with rule={name!r}: there is no term to weigh; use rule_weight=None")
    if not 0 <= weight < math.inf:
        raise InputError(f"rule_weight={weight}: must be at least 0, or None for the weight of the publication")


def build_rule(rule: str | CodebookRule, num_codes: int, dim: int) -> CodebookRule | None:
    """Build the rule of a layer.

    Args:
        rule: Name of the rule, or the rule.
        num_codes: K, the number of codes.
        dim: C, the channels of a code.

    Returns:
        The rule, or None for ``"none"``.

    Raises:
        InputError: if the rule is unknown, or was made for another number of codes or channels.

    Example:
        >>> build_rule("none", 8, 4) is None
        True
    """
    if isinstance(rule, str):
        entry = get_rule(rule)
        return None if entry is None else entry(num_codes, dim)
    if (rule.num_codes, rule.dim) != (num_codes, dim):
        raise InputError(
            f"rule={rule.name!r} for {rule.num_codes} codes of {rule.dim} channels: the layer has {num_codes} of "
            f"{dim}; use {type(rule).__name__}({num_codes}, {dim})"
        )
    return rule


def counted_mean(values: Float[Tensor, "N C"], rows: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
    """Compute the mean over all elements of the rows that count.

    Args:
        values: Values, (N, C), finite.
        rows: The rows that count, True in a mask of (N,).

    Returns:
        Scalar; 0 without rows.

    Example:
        >>> counted_mean(torch.tensor([[1.0, 3.0], [9.0, 9.0]]), torch.tensor([True, False]))
        tensor(2.)
    """
    return torch.where(rows[:, None], values, 0).sum() / (rows.sum().clamp_min(1) * values.shape[1])
