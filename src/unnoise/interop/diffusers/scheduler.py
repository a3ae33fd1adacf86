"""Any solver as a diffusers scheduler, for a pipeline's own loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from ...errors import InvalidArgument, NonFinite, Unsupported, unknown
from ...paths import Chain, GaussianPath, as_time, expand, grid_for, grids
from ...randomness import Streams
from ...solvers import Noise, Solver, TimeGrid, get
from ...solvers.solver import Steps
from ..path_tree import from_tree, to_tree
from .convention import LENS_OF, Convention
from .evaluations import GeneratorNoise, Visit, steps_to_data, visits


class UnnoiseScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]
    """A solver of unnoise where diffusers expects a scheduler.

    `timesteps` lists every network evaluation of a solve, stages included: a pipeline's loop of one
    evaluation a timestep drives the solver's own generator, and `step` sends to it.

    solver: by name and options ("unipc:order=3"), or a Solver. grid: a spacing by name, or
    {"kind": …, options}. path: a GaussianPath or its tree; by default the linear chain.
    prediction_type: epsilon, sample, v_prediction or flow_prediction. clock, sigma_data, clip,
    threshold: see `Convention`. data_std: the data's deviation, for `init_noise_sigma`.
    `UnnoiseScheduler.from_config(pipeline.scheduler.config, solver=…)` takes the model's part of
    another scheduler's config.

    Noise of stochastic solvers comes from the generator that the pipeline passes to `step`, or
    from the Streams given to `set_timesteps`; with neither they raise. Raises Unsupported for
    adaptive and parallel solvers, whose times no list can hold, and where a pipeline changes the
    sample between steps.
    """

    order = 1
    _compatibles: list[str] = []  # noqa: RUF012

    def __init__(
        self,
        solver: str | Solver = "dpmpp_2m",
        grid: str | Mapping[str, Any] = "uniform",
        path: GaussianPath | Mapping[str, Any] | None = None,
        prediction_type: str = "epsilon",
        num_train_timesteps: int = 1000,
        clock: str = "chain",
        sigma_data: float | None = None,
        clip: float | None = None,
        learned_variance: bool = False,
        data_std: float = 1.0,
        threshold: Sequence[float] | None = None,
    ) -> None:
        if prediction_type not in LENS_OF:
            raise unknown("prediction_type", prediction_type, LENS_OF)
        if path is None:
            path = Chain.linear(num_train_timesteps).as_path()
        path = path if isinstance(path, GaussianPath) else from_tree(path)
        self.solver = get(solver)
        self.convention = Convention(
            path,
            LENS_OF[prediction_type],
            clock,
            num_train_timesteps,
            sigma_data,
            clip,
            learned_variance,
            None if threshold is None else (float(threshold[0]), float(threshold[1])),
        )
        if not isinstance(grid, str):
            grid = dict(grid)
            if "kind" not in grid:
                raise InvalidArgument(f'grid is {grid!r}; give {{"kind": "karras", …}}')
        self.register_to_config(
            solver=solver if isinstance(solver, str) else None,
            grid=grid,
            path=to_tree(path),
            prediction_type=prediction_type,
            num_train_timesteps=num_train_timesteps,
            clock=clock,
            sigma_data=sigma_data,
            clip=clip,
            learned_variance=learned_variance,
            data_std=data_std,
            threshold=None if threshold is None else list(threshold),
        )
        self._spacing: tuple[str, dict[str, Any]] = (
            (grid, {})
            if isinstance(grid, str)
            else (grid["kind"], {k: v for k, v in grid.items() if k != "kind"})
        )
        self.data_std = data_std
        self.noise: Streams | None = None
        self.num_inference_steps: int | None = None
        self._reset(())

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **options: Any):
        """Build from this scheduler's own config, or from that of a diffusers scheduler."""
        if config is None:
            raise InvalidArgument("no config was given; give scheduler.config, or build one")
        if "path" in config:
            return super().from_config(config, return_unused_kwargs, **options)
        convention = Convention.from_config(config, options.pop("mu", None))
        made = cls(
            path=convention.path,
            prediction_type={lens: name for name, lens in LENS_OF.items()}[convention.predicts],
            num_train_timesteps=convention.steps,
            clock=convention.clock,
            sigma_data=convention.sigma_data,
            clip=convention.clip,
            threshold=convention.threshold,
            learned_variance=convention.learned_variance,
            **options,
        )
        return (made, {}) if return_unused_kwargs else made

    def save_config(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> None:
        if self.config["solver"] is None:
            raise InvalidArgument(
                f"{self.solver} was given as an object, which a config cannot hold; give it by "
                "name and options, such as 'unipc:order=3'"
            )
        super().save_config(save_directory, push_to_hub, **kwargs)

    def __getstate__(self) -> dict[str, Any]:  # a copy starts at the beginning of the loop
        return {**self.__dict__, "_steps": None, "_asked": None, "_draws": None, "_index": 0}

    def __len__(self) -> int:
        return self.convention.steps

    @property
    def init_noise_sigma(self) -> float:
        """Return √(σ² + α²·data_std²) at the start (t = 1 before set_timesteps)."""
        start, path = self._times[0] if self._times else 1.0, self.convention.path
        return math.hypot(float(path.sigma(start)), float(path.alpha(start)) * self.data_std)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        times: Tensor | Sequence[float] | None = None,
        noise: Streams | None = None,
    ) -> None:
        """Set the grid: this many steps, or `times` in [0, 1]; noise: for stochastic solvers."""
        if times is not None:
            if num_inference_steps is not None:
                raise InvalidArgument("num_inference_steps and times were given; give one of them")
            grid = grids.check(times)
        elif num_inference_steps is None:
            raise InvalidArgument("neither num_inference_steps nor times was given; give one")
        else:
            kind, options = self._spacing
            grid = grid_for(self.convention.path, kind, num_inference_steps, **options)
        self.noise = noise
        self.num_inference_steps = len(grid) - 1
        self._reset(tuple(grid.tolist()), device)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Start at this entry of `timesteps` (as image-to-image pipelines do)."""
        begun = self._visits[begin_index : begin_index + 1]
        if not begun or not begun[0].first:
            raise InvalidArgument(
                f"timestep {begin_index} of {len(self._visits)} does not begin a step of "
                f"{self.solver}; begin at one of "
                f"{[i for i, visit in enumerate(self._visits) if visit.first]}"
            )
        rest = self._times[begun[0].step :]
        self._reset(rest, self.timesteps.device, self.timesteps[:begin_index])

    def _reset(
        self, times: tuple[float, ...], device: Any = None, before: Tensor | None = None
    ) -> None:
        self._times, self._index = times, 0
        self._steps: Steps | None = None
        self._asked: tuple[Any, ...] | None = None  # x, t of the evaluation that is due
        self._draws: GeneratorNoise | None = None
        self._visits: tuple[Visit, ...] = ()
        self._skipped = 0 if before is None else len(before)
        if times:
            self._visits = visits(self.solver, self.convention, times)
        asked = torch.tensor([visit.t for visit in self._visits], dtype=torch.float64)
        numbers = self.convention.timestep(asked)
        if bool((numbers == numbers.round()).all()):
            numbers = numbers.long()
        numbers = numbers.to(device or "cpu")
        self.timesteps = numbers if before is None else torch.cat([before.to(numbers), numbers])

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Return the network's input: x_t itself unless the network is EDM-preconditioned."""
        if self.convention.sigma_data is None:
            return sample
        return self.convention.scaled(sample, self.convention.time(timestep))

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return α(t)·x0 + σ(t)·ε at the times of these timesteps."""
        times = self.convention.time(timesteps).to(original_samples.device)
        return self.convention.path.diffuse(original_samples, noise, times)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return v = α·ε − σ·x0, the target of v_prediction."""
        times, path = as_time(self.convention.time(timesteps)), self.convention.path
        return (
            expand(path.alpha(times), sample) * noise - expand(path.sigma(times), sample) * sample
        )

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: Any = None,
        return_dict: bool = True,
    ) -> SchedulerOutput | tuple[Tensor]:
        """Send the evaluation at `sample` to the solver.

        `prev_sample` of the result is where to evaluate the network next.
        """
        if eta or use_clipped_model_output:
            raise InvalidArgument(
                f"eta={eta!r}, use_clipped_model_output={use_clipped_model_output!r}: the solver "
                "decides; give it as solver='ddim:eta=…', and clip when building the scheduler"
            )
        self._check(timestep)
        if self._steps is None:
            self._begin(sample)
        assert self._steps is not None
        assert self._asked is not None
        x, t, *_ = self._asked
        if not (sample is x or torch.equal(sample, x)):
            raise Unsupported(
                "the pipeline changed the sample between two steps, which a solver with a history "
                "cannot follow; change it in a Field (guidance) instead, and sample with unnoise"
            )
        if self._draws is not None:
            self._draws.generator = generator
        try:
            self._asked = self._steps.send(self.convention.read(model_output, sample, t))
            self._index += 1
            made = self._asked[0]
        except StopIteration as end:
            self._steps, self._asked, self._index = None, None, 0
            made = end.value
            if not bool(torch.isfinite(made).all()):
                raise NonFinite(
                    f"the state is not finite after the last of {len(self._visits)} passes; sample "
                    f"with {self.solver}.solve, which names the step, time and sample"
                ) from None
        return SchedulerOutput(made) if return_dict else (made,)

    def _check(self, timestep: Any) -> None:
        """Raise InvalidArgument unless this is the timestep of the evaluation that is due."""
        if not self._visits:
            raise InvalidArgument("step before set_timesteps; call set_timesteps first")
        wanted = self.timesteps[self._skipped + self._index]
        if abs(float(timestep) - float(wanted)) > 1e-6 * (1 + abs(float(wanted))):
            raise InvalidArgument(
                f"step at timestep {float(timestep):g}, and pass {self._index} of "
                f"{len(self._visits)} is at {float(wanted):g}; go through `timesteps` in order "
                "(set_begin_index to begin later)"
            )

    def _begin(self, sample: Tensor) -> None:
        """Start the solver at `sample`, up to its first evaluation."""
        noise: Noise | None = self.noise
        if noise is None:
            noise = self._draws = GeneratorNoise(sample.shape[0], sample.dtype, sample.device)
        grid = TimeGrid.of(self._times)
        self._steps = steps_to_data(self.solver, self.convention, sample, grid, noise)
        self._asked = next(self._steps)
