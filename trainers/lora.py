"""Low-rank adapters (Hu et al., 2021) by PEFT: train a few weights beside the frozen encoder, then merge them in."""

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from m3se.trainers.errors import InputError


def add_adapter(
    model: PreTrainedModel, rank: int, alpha: int | None = None, dropout: float = 0.0, targets: list[str] | None = None
) -> PeftModel:
    """Freeze the encoder of one of our models, and train adapters on its linear layers instead.

    `targets` names the layers as they are called inside a block (query, value ...); None: all of them. An adapter is
    scaled by `alpha / rank`; `alpha` None: 2 * rank. Layers after the encoder are new or few, and trained whole.

    Raises:
        InputError: a rank below 1, or a target that the encoder does not have.
    """
    if rank < 1:
        raise InputError(f"lora_r: expected at least 1, got {rank}")
    encoders = tuple(
        f"{name}."
        for name, module in model.named_modules()
        if isinstance(module, PreTrainedModel) and module.base_model is module
    )
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(encoders) and ".pooler." not in name
    ]
    known = {name.rsplit(".", 1)[-1] for name in linear}
    if unknown := sorted(set(targets or ()) - known):
        raise InputError(f"lora_targets: expected some of {', '.join(sorted(known))}, got {', '.join(unknown)}")
    chosen = [name for name in linear if targets is None or name.rsplit(".", 1)[-1] in targets]
    whole = {
        name.rpartition(".")[0]
        for name, weight in model.named_parameters()
        if weight.requires_grad and (not name.startswith(encoders) or ".pooler." in name)
    }
    options = {"r": rank, "lora_alpha": alpha or 2 * rank, "lora_dropout": dropout}
    return get_peft_model(model, LoraConfig(**options, target_modules=chosen, modules_to_save=sorted(whole) or None))
