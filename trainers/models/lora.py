"""Low-rank adapters (Hu et al., 2021) by PEFT: train a few weights beside the frozen encoder, then merge them in."""

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from m3se.trainers.errors import InputError


def add_adapter(
    model: PreTrainedModel, rank: int, alpha: int | None = None, dropout: float = 0.0, targets: list[str] | None = None
) -> PeftModel:
    """Freeze the encoder of one of our models, and train adapters on its linear layers instead.

    PEFT's own choice of "all-linear" would take poolers and the layers after the encoder too. Such layers are new
    or few, and trained whole.

    Args:
        model: a dual encoder, ColBERT or cross-encoder.
        rank: of the adapters.
        alpha: adapters are scaled by `alpha / rank`; None: 2 * rank.
        dropout: rate before the adapters.
        targets: layers by their names inside a block (query, value …); None: all of them.

    Raises:
        InputError: a rank below 1, a target that the encoder does not have, or no linear layer in it.
    """
    if rank < 1:
        raise InputError(f"lora_r: expected at least 1, got {rank}")
    modules = dict(model.named_modules())
    encoders = tuple(f"{name}." for name, module in modules.items() if is_encoder(module))
    layers = {}
    for name, module in modules.items():
        if isinstance(module, nn.Linear) and name.startswith(encoders) and ".pooler." not in name:
            layers[name] = name.rpartition(".")[2]
    if not layers:
        raise InputError("lora_r: expected an encoder with linear layers, got one of embeddings alone (layers 0)")
    if unknown := sorted(set(targets or ()) - set(layers.values())):
        names = ", ".join(sorted(set(layers.values())))
        raise InputError(f"lora_targets: expected some of {names}, got {', '.join(unknown)}")
    whole = set()
    for name, weight in model.named_parameters():
        if weight.requires_grad and (not name.startswith(encoders) or ".pooler." in name):
            whole.add(name.rpartition(".")[0])
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha or 2 * rank,
        lora_dropout=dropout,
        target_modules=[name for name, kind in layers.items() if targets is None or kind in targets],
        modules_to_save=sorted(whole) or None,
    )
    return get_peft_model(model, config)


def is_encoder(module: nn.Module) -> bool:
    """Tell a transformer without a head, such as BertModel."""
    return isinstance(module, PreTrainedModel) and module.base_model is module
