"""The device and the number format of a run, and the reason for the choice."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mtrain.errors import UserError
from mtrain.runtime.onednn import multiply_with_onednn, onednn_is_better

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A device and the number format of matrix products; weights are always fp32."""

    device: torch.device
    name: str  # fp32, bf16 or fp16
    reason: str

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context to run the model in."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, self.type)

    @property
    def type(self) -> torch.dtype:
        """The torch dtype of the number format."""
        return TYPES[self.name]

    @property
    def prepacks_weights(self) -> bool:
        """Whether inference is faster with weights in oneDNN's layout."""
        return self.device.type == "cpu" and self.name == "fp32" and onednn_is_better()

    @property
    def scales_loss(self) -> bool:
        """Whether gradients would underflow without loss scaling, as in fp16."""
        return self.name == "fp16"


def choose_precision(precision: str, device: str) -> Precision:
    """Resolve `auto`, or check that the machine supports the request.

    Raises `UserError` if it does not.
    """
    chosen = _choose_device(device)
    if chosen.type == "cpu":
        multiply_with_onednn()
        if precision == "fp16":
            raise UserError(
                "training.precision: fp16 needs a GPU", "use auto, fp32 or bf16 on a CPU"
            )
        reason = "asked for" if precision != "auto" else "a CPU computes in fp32"
        return Precision(chosen, "fp32" if precision == "auto" else precision, reason)
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each mask shape
    torch.backends.cudnn.allow_tf32 = False  # recurrent layers would round fp32 to TF32
    name = torch.cuda.get_device_name(chosen)
    if precision != "auto":
        return Precision(chosen, precision, f"asked for, on {name}")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(chosen, "bf16", f"{name} has it")
    return Precision(chosen, "fp16", f"{name} has no bf16; the loss is scaled")


def _choose_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU", "use device: auto")
    if device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
