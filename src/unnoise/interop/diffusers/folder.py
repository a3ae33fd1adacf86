"""A trained model in diffusers' folder layout, and back."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMPipeline
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from ...artifacts import Model
from ...artifacts.read import read_denoiser
from ...data import DataSpec
from ...errors import ArtifactError, UnnoiseError, Unsupported
from ...fields import Condition, Denoiser
from ...fields.lenses import refusal
from ...paths import ChainPath, Flow, GaussianPath, Shifted
from ...recipes import build_denoiser, load_recipe, resolved
from ...safe_files.files import read_json
from .convention import LENS_OF, Convention
from .scheduler import UnnoiseScheduler

WEIGHTS = "diffusion_pytorch_model.safetensors"
NATIVE_REFUSAL = (
    "UNet2DModel doubles sizes before a block's first convolution and unnoise after it, its groups "
    "of a norm are as many at every width, its queries and keys are not normalised, and its input "
    "is not scaled; save without native=True: the folder is then read by diffusers "
    "wherever unnoise is installed"
)


class UnnoiseUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A trained denoiser in the place of diffusers' U-Net: forward(sample, timestep).

    The network's scaling, preconditioning and path are inside; the output is the prediction in the
    lens of `convention`. Without class_labels every sample is unconditional. recipe, data: in the
    form of an artifact.
    """

    @register_to_config
    def __init__(
        self,
        recipe: dict[str, Any],
        data: dict[str, Any],
        training: dict[str, Any] | None = None,
        in_channels: int = 3,
        sample_size: list[int] | int | None = None,
    ) -> None:
        super().__init__()
        made = load_recipe(recipe)
        spec = DataSpec.from_dict(data)
        self.denoiser = build_denoiser(made.path, made.network, made.model, spec)
        self.convention = convention_of(self.denoiser)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        class_labels: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[Tensor]:
        """Return the prediction for a noisy sample at a timestep of the convention's clock."""
        t = self.convention.time(torch.as_tensor(timestep, dtype=torch.float64))
        condition = None
        if class_labels is not None:
            condition = Condition.of({"class": class_labels}, len(sample))
        value = self.convention.output_of(self.denoiser(sample, t, condition))
        return UNet2DOutput(sample=value) if return_dict else (value,)


def convention_of(denoiser: Denoiser) -> Convention:
    """Return the convention of this denoiser: its own lens if diffusers has a name for it."""
    path, lens = denoiser.path, denoiser.predicts
    if _is_flow(path):
        return Convention(path, "velocity", "flow")
    if lens not in LENS_OF.values():
        lens = "eps" if refusal(path, "eps") is None else "v"
    steps = path.chain.steps if isinstance(path, ChainPath) else 1000
    return Convention(path, lens, "chain", steps)


def _is_flow(path: GaussianPath) -> bool:
    return isinstance(path.base if isinstance(path, Shifted) else path, Flow)


def save(model: Model, folder: str | Path, native: bool = False) -> Path:
    """Write a model as a diffusers pipeline folder, which must not exist yet.

    unet/ (config.json, diffusion_pytorch_model.safetensors), scheduler/ and model_index.json, as
    `DDPMPipeline.from_pretrained` reads them if unnoise is installed; the outputs are the same, and
    the scheduler samples by the model's recipe. Raises Unsupported for data that are not pictures,
    and for native=True: no U-Net of unnoise is a UNet2DModel.
    """
    spec, folder = model.spec, Path(folder)
    if native:
        raise Unsupported(f"this network is no UNet2DModel: {NATIVE_REFUSAL}")
    if len(spec.shape) != 3:
        raise Unsupported(
            f"events of shape {spec.shape}: a diffusers U-Net takes pictures (channels, height, "
            "width); keep this model in unnoise's own format (Model.save)"
        )
    if folder.exists():
        raise ArtifactError(f"{folder} exists already; give a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        pipeline: Any = DDPMPipeline(*_wrapped(model))
        pipeline.save_pretrained(beside)
        beside.rename(folder)
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _wrapped(model: Model) -> tuple[UnnoiseUNet, UnnoiseScheduler]:
    channels, *size = model.spec.shape
    unet = UnnoiseUNet(
        resolved(model.recipe), model.spec.to_dict(), model.training, channels, list(size)
    )
    unet.denoiser.network.load_state_dict(model.denoiser.network.state_dict())
    prediction = unet.convention
    chosen = model.recipe.sample
    scheduler = UnnoiseScheduler(
        chosen.solver,
        chosen.grid.model_dump(exclude_none=True),
        prediction.path,
        {lens: name for name, lens in LENS_OF.items()}[prediction.predicts],
        prediction.steps,
        prediction.clock,
        data_std=model.denoiser.data_std,
    )
    return unet.eval(), scheduler


def load(folder: str | Path) -> Model:
    """Return the model of a folder that `save` wrote; runs no code from it.

    Raises ArtifactError naming the fault. For folders of diffusers' own models use `DiffusersField`
    on the model that diffusers loads.
    """
    folder = Path(folder).expanduser()
    config = folder / "unet" / "config.json"
    if not config.is_file():
        raise ArtifactError(f"{folder} holds no unet/config.json; give a diffusers folder")
    tree = read_json(config)
    if not isinstance(tree, dict):
        raise ArtifactError(f"{config} is not an object; it is no model of diffusers")
    if tree.get("_class_name") != UnnoiseUNet.__name__:
        raise ArtifactError(
            f"{config} describes a {tree.get('_class_name')}, which unnoise did not write; load it "
            "with diffusers and make it a field with DiffusersField(model, scheduler)"
        )
    for key in ("recipe", "data"):
        if not isinstance(tree.get(key), dict):
            raise ArtifactError(f"{config} lacks {key}; it was not written by unnoise")
    try:
        recipe, spec = load_recipe(tree["recipe"]), DataSpec.from_dict(tree["data"])
    except UnnoiseError as error:
        raise ArtifactError(f"{config}: {error}") from error
    weights = folder / "unet" / WEIGHTS
    denoiser = read_denoiser(recipe, spec, weights, str(config), prefix="denoiser.network.")
    denoiser.eval().requires_grad_(False)
    return Model({"denoiser": denoiser}, recipe, spec, dict(tree.get("training") or {}))
