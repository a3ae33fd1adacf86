"""A player: one of the models that a run trains, with its loss, its optimizer and its average."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ..data import DataSpec
from ..errors import InvalidArgument, need_count
from ..fields import Denoiser
from ..objectives import Objective
from ..recipes import Recipe, build_denoiser, build_objective, levels_of
from ..recipes.train_section import (
    AdamWConfig,
    AveragesConfig,
    ConstantEma,
    MuonConfig,
    PowerEma,
    TrainConfig,
)
from .ema import Ema
from .optimizers import build_optimizers

_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")
DENOISER = "denoiser"  # the one player of a recipe's run


class Player:
    """A model that a run trains: by which loss, with which optimizer and average, how often.

    modules: one module, or several by name; the objective is called with the module, or with an
    nn.ModuleDict of the several. optimizer, ema, averages: sections of a recipe; an `ema` of None
    keeps no average. every: the player makes an update in each round whose number is a multiple
    of `every`. Raises InvalidArgument for a name that is not of letters, digits and underscores,
    and for modules without a parameter that can be trained.
    """

    def __init__(
        self,
        name: str,
        modules: nn.Module | Mapping[str, nn.Module],
        objective: Objective,
        optimizer: AdamWConfig | MuonConfig | None = None,
        ema: PowerEma | ConstantEma | None = None,
        averages: AveragesConfig | None = None,
        every: int = 1,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"a player is named {name!r}; begin with a letter, go on with letters, digits and _"
            )
        several = isinstance(modules, Mapping)
        self.model: nn.Module = nn.ModuleDict(dict(modules)) if several else modules  # type: ignore[arg-type, assignment]
        if not any(p.requires_grad for p in self.model.parameters()):
            raise InvalidArgument(
                f"player {name!r} has no parameter that can be trained; give modules with "
                "parameters that require gradients"
            )
        self.name, self.objective, self.every = name, objective, need_count("every", every)
        self._optimizer, self._ema, self._averages = optimizer or MuonConfig(), ema, averages
        self.averaged: nn.Module | None = None

    @classmethod
    def of(cls, denoiser: Denoiser, objective: Objective, config: TrainConfig) -> Player:
        """Return the player "denoiser" of a run by the section `train` of a recipe."""
        return cls(DENOISER, denoiser, objective, config.optimizer, config.ema, config.averages)

    @property
    def network(self) -> nn.Module:
        """The module whose parameters are trained."""
        return network_of(self.model)

    @property
    def networks(self) -> list[nn.Module]:
        """The network of each module."""
        several = isinstance(self.model, nn.ModuleDict)
        return [network_of(m) for m in (self.model.values() if several else [self.model])]  # type: ignore[operator, union-attr]

    @property
    def keeps_average(self) -> bool:
        """Whether the player has an average."""
        return self._ema is not None

    def place(self, device: torch.device, seed: int = 0) -> None:
        """Move the model to a device, and build its optimizers and averages there.

        seed: of the times at which the baseline's loss is measured.
        """
        self._seed = seed
        self.model.to(device).train()
        self.optimizers = build_optimizers(self.network, self._optimizer)
        self.named = [(n, p) for n, p in self.network.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in self.named]
        options = None if self._ema is None else self._ema.model_dump(exclude={"kind"})
        self.ema = None if options is None else Ema(self.parameters, **options)
        kept = self._averages
        gammas = kept.gammas if kept else []
        every = kept.every if kept else 1
        self.averages = [Ema(self.parameters, gamma=g, every=every) for g in gammas]
        if self.ema is not None and "ema" in self.objective.needs:
            self.averaged = deepcopy(self.model).eval().requires_grad_(False)
            copies = dict(network_of(self.averaged).named_parameters())
            for (name, _), average in zip(self.named, self.ema.averages, strict=True):
                copies[name].data = average  # shared: as new as the average

    @cached_property
    def scale(self) -> float:
        """The mean loss of the objective's baseline where that is known, else 1."""
        return self.objective.mean_baseline_loss(self.model, self._seed) or 1.0

    def step(self, norm: Tensor, clip: float | None, bad: Tensor | None = None) -> None:
        """Change the weights by their gradients, of this norm; not where `bad` is 1."""
        if clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, clip, norm, foreach=True)
        self.optimizers.step(bad)

    def average(self) -> None:
        """Take the weights into the averages."""
        for kept in self._all_averages():
            kept.update()

    def _all_averages(self) -> list[Ema]:
        return [*([self.ema] if self.ema is not None else []), *self.averages]

    def unsound(self) -> str | None:
        """Return the name of the first weight, of the model or its average, that is not finite."""
        averages = self.ema.averages if self.ema is not None else self.parameters
        for (name, weight), average in zip(self.named, averages, strict=True):
            if not (bool(torch.isfinite(weight).all()) and bool(torch.isfinite(average).all())):
                return name
        return None

    def state(self) -> dict[str, Any]:
        """Return everything that later updates depend on."""
        return {
            "weights": self.network.state_dict(),
            "ema": {str(i): a for i, a in enumerate(self.ema.averages if self.ema else ())},
            "ema_updates": max((kept.updates for kept in self._all_averages()), default=0),
            "optimizers": self.optimizers.state_dict(),
            "objective": self.objective.state(),
            "averages": {
                f"{j}.{i}": a
                for j, kept in enumerate(self.averages)
                for i, a in enumerate(kept.averages)
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.network.load_state_dict(state["weights"])
        for kept in self._all_averages():
            kept.updates = int(state["ema_updates"])
        for i, average in enumerate(self.ema.averages if self.ema else ()):
            average.copy_(state["ema"][str(i)])
        for j, kept in enumerate(self.averages):
            for i, average in enumerate(kept.averages):
                average.copy_(state["averages"][f"{j}.{i}"])
        self.optimizers.load_state_dict(state["optimizers"])
        self.objective.load_state(state["objective"])


def player_of(
    recipe: Recipe,
    spec: DataSpec,
    network: nn.Module | None = None,
    objective: Objective | None = None,
) -> Player:
    """Return the player of a recipe's run on data of this description. network, objective: the
    caller's own, in place of the recipe's."""
    seed = recipe.train.seed
    denoiser = build_denoiser(recipe.path, recipe.network, recipe.model, spec, seed, network)
    if objective is None:
        objective = build_objective(recipe.objective, denoiser.data_std, levels_of(spec))
    return Player.of(denoiser, objective, recipe.train)


def network_of(model: nn.Module) -> nn.Module:
    """Return the module whose parameters are trained: of a Denoiser its network, else the model."""
    return model.network if isinstance(model, Denoiser) else model


def check_players(players: Sequence[Player], frozen: Mapping[str, nn.Module]) -> None:
    """Raise InvalidArgument for names given twice, for players none of which is due in every round,
    and for needs of an objective that no player and no frozen model meets."""
    names = [player.name for player in players]
    if len({*names, *frozen, "ema"}) < len(names) + len(frozen) + 1:
        raise InvalidArgument(
            f"players {names} and frozen models {[*frozen]} share a name, or one is named 'ema'; "
            "give each a name of its own"
        )
    if all(player.every > 1 for player in players):
        raise InvalidArgument(
            f"no player of {names} is due in every round; give one of them every=1"
        )
    for player in players:
        for name in player.objective.needs:
            if name == "ema":
                met, remedy = player.keeps_average, "give the player an ema, such as PowerEma()"
            else:
                met = name != player.name and (name in names or name in frozen)
                remedy = f"add a player of that name, or give frozen={{{name!r}: model}}"
            if not met:
                raise InvalidArgument(
                    f"{type(player.objective).__name__} of player {player.name!r} needs {name!r}, "
                    f"and there are players {names} and frozen models {[*frozen]}; {remedy}"
                )


@contextmanager
def needed_by(
    player: Player, players: Mapping[str, Player], frozen: Mapping[str, nn.Module]
) -> Iterator[dict[str, nn.Module]]:
    """Yield the models that a player's objective needs, by name; inside, no gradient reaches the
    weights of any of them."""
    needed: dict[str, nn.Module] = {}
    shut: list[nn.Parameter] = []
    for name in player.objective.needs:
        if name == "ema":
            assert player.averaged is not None
            needed[name] = player.averaged
        elif name in players:
            needed[name] = players[name].model
            shut += players[name].parameters
        else:
            needed[name] = frozen[name]
    for p in shut:
        p.requires_grad_(False)
    try:
        yield needed
    finally:
        for p in shut:
            p.requires_grad_(True)
