"""The training loop as a generator: the caller drives it, one update at a time."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..artifacts import Model
from ..data import Dataset, own_data
from ..data.on_device import OnDevice, on_device
from ..errors import ArtifactError, DataError, UnnoiseError, Unsupported
from ..fields import Denoiser
from ..objectives import Batch, Loss, Objective
from ..randomness import Streams
from ..recipes import Recipe, check, check_data, load_recipe, open_parts, resolved
from ..recipes.schema import OwnNetwork
from ..recipes.sources import OwnData
from ..recipes.train_section import TrainConfig
from ..safe_files.files import check_tensors
from ..sampling import Precision, autocast, resolve
from .batches import Parts, batch_at, memory_named, out_of_memory, rate_of
from .distributed import Processes, find_processes
from .ema import Ema
from .feed import Feed, worker_deaths
from .guard import Guard
from .judge import Judge
from .loss_scale import LossScale
from .optimizers import rate_at
from .outcome import Outcome
from .player import Player, check_players, needed_by, player_of
from .prepare import check_network, prepare
from .update import Update

if TYPE_CHECKING:
    from accelerate import Accelerator


class Training:
    """Players in training. Everything random is a function of (seed, samples seen).

    players: trained in turn, in float32 with `config.precision` arithmetic. One of them makes an
    update in every round: the first of these is the `leader`, whose loss is logged and whose
    average becomes the model. data: the training part, or whatever has its `batch(rows)`, `order`,
    `spec` and `fingerprint`. conditional: whether labels are shown to the models. accelerator: made
    here where none is given. frozen: further models, by the names under which objectives need them.
    recipe: that of the run, which `model` needs.

    A round is one update of each player that is due, in order, all on the same batch of
    `config.batch` samples, or of the ramp's. The batch is split into `accumulate` parts on each of
    the processes that Accelerate finds, each part with its own backward pass; gradients are added
    up once, before clipping, so the update is that of one process on the whole batch (a coupling
    pairs inside a part). Where a part does not fit into memory the update is made again in smaller
    ones, and so are all later ones. The first player's noise is that of a run with one player.

    An update's loss and gradient norm are read on the host once, together, for the guard; on a GPU
    one update late: see `Judge`. `judge_pending` does that at once; `state`, `held_out`,
    `Update.fault` and the end of `updates` do too.

    Raises InvalidArgument for players of one name, none that is due in every round, and needs that
    nothing meets; DataError for a batch that does not split, or processes with unlike data;
    Unsupported for an objective that learns from its losses on several processes.
    """

    def __init__(
        self,
        players: Player | Sequence[Player],
        data: Dataset,
        config: TrainConfig,
        conditional: bool = True,
        accelerator: Accelerator | None = None,
        frozen: Mapping[str, nn.Module] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        accelerator = accelerator or find_processes()
        self.accelerator, self.data, self.config = accelerator, data, config
        self.recipe = recipe
        self.processes, self.device = Processes(accelerator), accelerator.device
        listed = [players] if isinstance(players, Player) else list(players)
        self.players = {player.name: player for player in listed}
        self.frozen = dict(frozen or {})
        check_players(listed, self.frozen)
        self.leader = next(player for player in listed if player.every == 1)
        for player in listed:
            if self.processes.count > 1 and player.objective.state():
                raise Unsupported(
                    f"{type(player.objective).__name__} learns from its losses, and each of "
                    f"{self.processes.count} processes would see its own; train it on one "
                    "process, or with other objective.times"
                )
        self.parts = Parts(config, self.processes.count)
        self.conditional = conditional and bool(data.spec.conditions)
        self.precision: Precision = resolve(config.precision, self.device)
        for model in self.frozen.values():
            model.to(self.device).eval().requires_grad_(False)
        for player in listed:
            player.place(self.device, config.seed)
            if self.precision.name == "fp16":
                player.optimizers.loss_scale = LossScale(self.device)
            users = [player, *(p for p in listed if player.name in p.objective.needs)]
            most = max(users, key=lambda user: user.objective.derivatives)
            for network in player.networks:
                prepare(network, config, most.objective, self.device)
        self.step, self.seen, self.elapsed = 0, 0, 0.0
        self.judge = Judge(config.guard, data, config.seed)
        self.deferred = self.device.type == "cuda"
        self._feed: Feed | None = None
        self._drawn: dict[tuple[int, int], tuple[Batch, Streams]] = {}
        if self.processes.count > 1:
            self.processes.require_equal("fingerprint of its data", self.fingerprint)

    @classmethod
    def of(
        cls,
        recipe: Recipe | str | Path | Mapping[str, Any],
        overrides: Sequence[str] = (),
        accelerator: Accelerator | None = None,
        *,
        network: nn.Module | None = None,
        data: Any = None,
        objective: Objective | None = None,
    ) -> Training:
        """Return the training of a recipe, or of one by its name, file or tree, with overrides.

        network, data, objective: the caller's own, in place of the recipe's. A network is called
        network(x, noise_level, condition) and returns the shape of x; data: see `own_data`, all of
        them are trained on. Raises as `load_recipe` and `train` do, and InvalidArgument for a
        network that does not fit the data, before any work.
        """
        if not isinstance(recipe, Recipe):
            recipe = load_recipe(recipe, overrides)
        elif overrides:
            recipe = load_recipe(resolved(recipe), overrides)
        own: dict[str, Any] = {}
        if network is not None:
            own["network"] = OwnNetwork(kind="own", name=type(network).__name__)
        if data is not None:
            data = own_data(data, recipe.data.normalisation)
            own["data"] = OwnData(source="own", normalisation=recipe.data.normalisation)
        recipe = recipe.model_copy(update=own)
        check(recipe)
        part = open_parts(recipe)[1]["train"] if data is None else data
        check_data(recipe, part.spec)
        if network is not None:
            check_network(network, recipe, part)
        return cls(
            player_of(recipe, part.spec, network, objective),
            part,
            recipe.train,
            recipe.model.conditional,
            accelerator,
            recipe=recipe,
        )

    @property
    def denoiser(self) -> Any:
        """The leader's model, in training."""
        return self.leader.model

    @property
    def objective(self) -> Objective:
        """The leader's objective."""
        return self.leader.objective

    @property
    def ema(self) -> Ema:
        """The leader's average; raises Unsupported where it has none."""
        if self.leader.ema is None:
            raise Unsupported(
                f"player {self.leader.name!r} keeps no average; build it with ema=PowerEma()"
            )
        return self.leader.ema

    @property
    def guard(self) -> Guard:
        """The guard that judges the updates."""
        return self.judge.guard

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the training data."""
        return self.data.fingerprint()

    @cached_property
    def source(self) -> Dataset | OnDevice:
        """Where batches come from: the training data, on the device where they fit there."""
        return on_device(self.data, self.device) or self.data

    @property
    def progress(self) -> float:
        """The share of the run that is done, by updates or by time."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        assert self.config.budget is not None
        return min(1.0, self.elapsed / self.config.budget)

    def _middle(self) -> float:
        """Return the share of the run at the middle of the next round: never quite 0 or 1."""
        if self.config.steps is not None:
            return (self.step + 0.5) / self.config.steps
        assert self.config.budget is not None
        update = self.elapsed / self.step if self.step else 0.01 * self.config.budget
        return min(1.0, (self.elapsed + update / 2) / self.config.budget)

    def batch(self, counter: int, size: int) -> tuple[Batch, Streams]:
        """Return samples counter … counter + size − 1 of the stream, and their noise."""
        seed = self.config.seed
        feed = self._feed or Feed(self.source, seed, size, 0)
        batch = feed.take(counter, size).to(self.device, self.conditional)
        return batch, Streams(seed, range(counter, counter + size), "training")

    def updates(self) -> Generator[Update, None, None]:
        """Yield after every round until the run's length is reached; time outside is not counted.
        The last update is judged.

        The caller may stop at any time, save `state()`, and go on later. Where `guard.broken` after
        an update the caller can `roll_back`; otherwise the next update raises NonFinite.
        """
        try:
            while self.progress < 1:
                with worker_deaths(), memory_named():
                    update = self._round()
                    if self.progress >= 1:
                        self.judge_pending()
                yield update
        finally:
            if self._feed is not None:
                self._feed.close()
            self.judge_pending()

    def _round(self) -> Update:
        """Make one update of each player that is due."""
        self.guard.check(self.precision.name)
        began = time.perf_counter()
        progress = self.progress
        whole = batch_at(progress, self.config)
        rate = rate_at(self._middle(), self.config) * rate_of(whole, self.config)
        rate *= self.guard.factor
        due = [p for p in self.players.values() if (self.step + 1) % p.every == 0]
        outcomes, note = {}, None
        for player in due:
            player.optimizers.scale(rate)
            while not (losses := self._losses(player, whole, len(due) > 1)):
                note = self.parts.shrink(whole)
            outcomes[player.name] = self._update(player, losses)
        self._drawn.clear()
        self.step += 1
        self.seen += whole
        self.elapsed += time.perf_counter() - began
        if self.config.budget is not None:
            self.elapsed = self.processes.broadcast(self.elapsed)
        leader, judge = self.leader.name, self.judge_pending
        return Update(self.step, self.seen, outcomes, leader, rate, progress, judge, note)

    def _losses(self, player: Player, whole: int, again: bool) -> list[Loss]:
        """Return the losses of the parts of the next `whole` samples, with the gradients in place;
        none where a part does not fit into memory on any process, and then no gradients.

        again: whether another player takes the same batch.
        """
        processes = self.processes
        scale = player.optimizers.loss_scale
        count, size = self.parts.split(whole)
        starts = [(k * processes.count + processes.rank) * size for k in range(count)]
        if (self.seen + starts[0], size) not in self._drawn:
            self._fed(size).seek(self.seen + starts[0])
        before, losses, failed = player.objective.state(), [], False
        if "ema" in player.objective.needs:
            self.judge_pending()
        try:
            with needed_by(player, self.players, self.frozen) as needed:
                for start in starts:
                    batch, noise = self._draw(self.seen + start, size, again)
                    if player is not next(iter(self.players.values())):
                        noise = noise.purpose(player.name)
                    batch = replace(batch, start=start, whole=whole)
                    call: Any = player.objective
                    with autocast(self.precision.name, self.device):
                        loss: Loss = call(player.model, batch, noise, **needed)
                    value = loss.value / (count * processes.count)
                    self.accelerator.backward(value if scale is None else scale.enlarge(value))
                    losses.append(loss)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            failed = True
        if failed:
            player.optimizers.zero_grad()
        if processes.sum_gradients(player.parameters, failed):
            losses.clear()
            self._drawn.clear()
            player.optimizers.zero_grad()
            if before:
                player.objective.load_state(before)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return losses

    def _fed(self, size: int) -> Feed:
        """Return what makes parts of `size` samples."""
        if self._feed is None or self._feed.source.size != size:
            if self._feed is not None:
                self._feed.close()
            stride, pin = size * self.processes.count, self.device.type == "cuda"
            workers = 0 if isinstance(self.source, OnDevice) else self.config.workers
            self._feed = Feed(self.source, self.config.seed, size, stride, workers, pin)
        return self._feed

    def _draw(self, counter: int, size: int, again: bool) -> tuple[Batch, Streams]:
        """Return `batch(counter, size)`, held for the other players of the round if `again`."""
        if not again:
            return self.batch(counter, size)
        if (counter, size) not in self._drawn:
            self._drawn[counter, size] = self.batch(counter, size)
        return self._drawn[counter, size]

    def _update(self, player: Player, losses: list[Loss]) -> Outcome:
        """Change a player's weights by the gradients in place, unless the guard finds fault."""
        per_sample, t = self.processes.gather(
            [
                torch.stack([loss.per_sample for loss in losses]),
                torch.stack([loss.t for loss in losses]),
            ]
        )
        grads = [p.grad for p in player.parameters if p.grad is not None]
        scale = player.optimizers.loss_scale
        if scale is not None:
            scale.restore(grads)
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        step, seen = self.step + 1, self.seen
        outcome = Outcome(step, seen, per_sample, t, norm, player.named, self.deferred)
        if scale is not None:
            scale.update(outcome.bad)
        if self.deferred:
            self.judge_pending()  # the update before: its weights are there until the next line
            player.step(norm, self.config.clip, outcome.bad)
            self.judge.defer(player, outcome)
        elif self.judge.judge(player, outcome):
            player.step(norm, self.config.clip)
            player.average()
        player.optimizers.zero_grad()
        return outcome

    def judge_pending(self) -> None:
        """Judge the last update now, where that is still to be done: see `Judge`."""
        self.judge.judge_pending()

    @torch.no_grad()
    def held_out(self, data: Dataset, limit: int = 1024) -> tuple[Tensor, Tensor]:
        """Return (per-sample loss, t) of the leader's average weights on at most `limit` samples
        of data not trained on, at fixed noise."""
        self.judge_pending()
        leader, objective = self.leader, self.objective.held_out()
        leader.model.eval()
        losses, times = [], []
        call: Any = objective
        with self.ema.applied(), autocast(self.precision.name, self.device):
            for rows in torch.arange(min(limit, len(data))).split(min(256, self.parts.most or 256)):
                batch = data.batch(rows).to(self.device, self.conditional)
                noise = Streams(self.config.seed, rows.tolist(), "held out")
                with needed_by(leader, self.players, self.frozen) as needed:
                    loss = call(leader.model, batch, noise, **needed)
                losses.append(loss.per_sample.cpu())
                times.append(loss.t.cpu())
        leader.model.train()
        return torch.cat(losses), torch.cat(times)

    def model(self) -> Model:
        """Return the leader's model with its average weights, to be sampled and saved: a copy.

        Raises Unsupported where the run has no recipe, or its leader is no Denoiser.
        """
        self.judge_pending()
        if self.recipe is None or not isinstance(self.denoiser, Denoiser):
            raise Unsupported(
                f"player {self.leader.name!r} of a run "
                f"{'without' if self.recipe is None else 'with'} a recipe makes no model; train a "
                "Denoiser, and start by Training.of(recipe) or give Training(…, recipe=recipe)"
            )
        network = self.leader.network
        compiled = getattr(network, "compiled_call", None)
        network = deepcopy(network, {id(compiled): None} if compiled else {})
        learned = dict(network.named_parameters())
        with torch.no_grad():
            for (name, _), average in zip(self.leader.named, self.ema.current(), strict=True):
                learned[name].copy_(average)
        history = {
            "updates": self.step,
            "samples_seen": self.seen,
            "seconds": round(self.elapsed, 1),
            "precision": self.precision.name,
            "ema": str(self.config.ema),
            "train_samples": len(self.data),
            "train_fingerprint": self.fingerprint,
        }
        if self.guard.skipped or self.guard.rollbacks:
            history["skipped_updates"] = self.guard.skipped
            history["rollbacks"] = self.guard.rollbacks
        return Model(
            {"denoiser": self.denoiser.around(network).eval().requires_grad_(False)},
            self.recipe,
            self.data.spec,
            training=history,
            precision=self.precision.name,
        )

    def baseline_loss(self, t: Tensor) -> Tensor | None:
        """Return the loss at times t (n,) of the best linear predictor of white data, if known."""
        return self.objective.baseline_loss(self.denoiser, t)

    def state(self) -> dict[str, Any]:
        """Return everything a resumed run needs, beside its recipe and data; every update in it is
        judged."""
        self.judge_pending()
        return {
            "step": self.step,
            "seen": self.seen,
            "elapsed": self.elapsed,
            "data": self.fingerprint,
            "guard": self.guard.state(),
            "part": self.parts.most,
            "players": {name: player.state() for name, player in self.players.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken; raise DataError where the data have changed since,
        ArtifactError where it is not a state of this run."""
        self.judge.forget()
        if state["data"] != self.fingerprint:
            raise DataError(
                f"the training data have changed: fingerprint {self.fingerprint[:16]}…, the run "
                f"was on {str(state['data'])[:16]}…; bring the data back, or start a new run"
            )
        if state["players"].keys() != self.players.keys():
            raise ArtifactError(
                f"the checkpoint is of players {[*state['players']]}, and this run's are "
                f"{[*self.players]}; build the same players, or start a new run"
            )
        for name, player in self.players.items():
            weights = state["players"][name]["weights"]
            check_tensors(player.network, weights, "the checkpoint's weights")
        try:
            self.step, self.seen = int(state["step"]), int(state["seen"])
            self.elapsed = float(state["elapsed"])
            self.parts.load(state.get("part"))
            self.guard.load_state(state.get("guard", {}))
            for name, player in self.players.items():
                player.load_state(state["players"][name])
        except UnnoiseError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ArtifactError(
                f"the checkpoint is not one of this run, or is damaged ({error!r:.200}); start a "
                "new run"
            ) from error

    def roll_back(self, state: dict[str, Any]) -> None:
        """Go back to an earlier `state()`, with lower rates from there on.

        The guard's counts stay, and so does the time spent where that is the run's length. An
        update that is not judged is undone with the others.
        """
        guard, elapsed = self.guard.state(), self.elapsed
        players = {
            name: kept | {"optimizers": deepcopy(kept["optimizers"])}  # they would be shared
            for name, kept in state["players"].items()
        }
        self.load_state(state | {"players": players})
        self.guard.load_state(guard)
        self.guard.went_back(self.step)
        if self.config.budget is not None:
            self.elapsed = elapsed
