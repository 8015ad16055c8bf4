"""Published folders that other libraries read without our code.

Every writer fills an existing empty folder (see `folder.new_folder`) and takes plain values: a state dict, the config
of the backbone as a dict, the fields of our own config, and a function that saves the tokenizer into a folder. Our
fields go under one key of the backbone's config.json, which other libraries ignore and `from_pretrained` of our
classes reads.

The sentence-transformers files are written by hand with the module names of its early versions, which every version
since can read; those that sentence-transformers 6 writes itself cannot be read by version 5.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor


FIELDS_KEY = "m3se"
SaveTokenizer = Callable[[str], object]
# Traces of the machine and of the last call, which tokenizers save along.
TOKENIZER_TRACES = (
    "is_local",
    "local_files_only",
    "name_or_path",
    "tokenizer_file",
    "vocab_file",
    "max_length",
    "stride",
)


def write_dual_encoder(
    folder: Path,
    state_dict: dict[str, Tensor],
    projection: dict[str, Tensor] | None,
    width: int,
    encoder_config: dict,
    fields: dict,
    save_tokenizer: SaveTokenizer,
) -> None:
    """Write a tied dual encoder: the backbone in its own format, and sentence-transformers files.

    Loads in `AutoModel`, `SentenceTransformer` and `DualEncoder`, none of them with custom code.

    Args:
        folder: empty folder to fill.
        state_dict: the backbone's weights.
        projection: weight [dim, H] and bias [dim] of the linear layer after the pooling; None: there is none.
        width: H, numbers of a hidden state, which backbones' configs name in many ways.
        encoder_config: the backbone's config.
        fields: the fields of our own config.
        save_tokenizer: saves the tokenizer into a folder.
    """
    write_backbone(folder, state_dict, encoder_config, {"model_type": "dual_encoder", **fields})
    write_tokenizer(folder, save_tokenizer, fields["document_length"])
    modules = ["Transformer", "Pooling"]
    modules += ["Dense"] if projection is not None else []
    modules += ["Normalize"] if fields["normalize"] else []
    write_json(folder / "modules.json", list(map(module_entry, range(len(modules)), modules)))
    write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": fields["document_length"], "do_lower_case": False}
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "prompts": sentence_transformers_prompts(fields),
            "default_prompt_name": None,
            "similarity_fn_name": "cosine" if fields["normalize"] else "dot",
        },
    )
    write_pooling(folder / "1_Pooling", fields["pooling"], width)
    if projection is not None:
        write_dense(folder / "2_Dense", projection)


def module_entry(index: int, name: str) -> dict:
    """Return the entry of a module in sentence-transformers' modules.json."""
    path = f"{index}_{name}" if index else ""
    return {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{name}"}


def write_pooling(folder: Path, pooling: str, width: int) -> None:
    """Write sentence-transformers' Pooling module of vectors of `width` numbers."""
    folder.mkdir()
    config = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    if pooling == "last":  # a key that early versions do not know
        config["pooling_mode_lasttoken"] = True
    write_json(folder / "config.json", config)


def write_dense(folder: Path, projection: dict[str, Tensor]) -> None:
    """Write sentence-transformers' Dense module: a linear layer with bias, and nothing after it."""
    folder.mkdir()
    write_weights(folder, {f"linear.{name}": tensor for name, tensor in projection.items()})
    outputs, inputs = projection["weight"].shape
    activation = "torch.nn.modules.linear.Identity"
    config = {"in_features": inputs, "out_features": outputs, "bias": True, "activation_function": activation}
    write_json(folder / "config.json", config)


def sentence_transformers_prompts(fields: dict) -> dict[str, str]:
    """Return the words before a text as sentence-transformers names them; {} for a model without any."""
    prompts = {"query": fields.get("query_prompt", ""), "document": fields.get("document_prompt", "")}
    return prompts if any(prompts.values()) else {}


def write_cross_encoder(
    folder: Path,
    state_dict: dict[str, Tensor],
    encoder_config: dict,
    fields: dict,
    save_tokenizer: SaveTokenizer,
) -> None:
    """Write a cross-encoder as a classifier: `AutoModelForSequenceClassification`, `CrossEncoder` of both libraries.

    sentence-transformers would put one logit through a sigmoid; the activation named here keeps it raw.

    Args:
        folder: empty folder to fill.
        state_dict: the classifier's weights.
        encoder_config: the classifier's config.
        fields: the fields of our own config.
        save_tokenizer: saves the tokenizer into a folder.
    """
    activation = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "5.0.0"}
    fields = {"model_type": "cross_encoder", **fields}
    write_backbone(folder, state_dict, {**encoder_config, "sentence_transformers": activation}, fields)
    joint = len(fields.get("separator_ids") or ()) - (not fields.get("keep_document_start"))
    write_tokenizer(folder, save_tokenizer, fields["query_length"] + fields["document_length"] + joint)


def write_colbert(
    folder: Path,
    state_dict: dict[str, Tensor],
    projection: Tensor,
    prefix: str,
    encoder_config: dict,
    fields: dict,
    metadata: dict,
    save_tokenizer: SaveTokenizer,
) -> None:
    """Write ColBERT in the layout of Stanford's own checkpoints: `MultiVectorEncoder`, PyLate, `AutoModel`.

    Args:
        folder: empty folder to fill.
        state_dict: the backbone's weights.
        projection: matrix [dim, H], written as `linear.weight`.
        prefix: the backbone's weights are named `{prefix}.*` ("bert" for BERT).
        encoder_config: the backbone's config.
        fields: the fields of our own config.
        metadata: the content of artifact.metadata.
        save_tokenizer: saves the tokenizer into a folder.
    """
    weights = {f"{prefix}.{name}": tensor for name, tensor in state_dict.items()} | {"linear.weight": projection}
    config = {**encoder_config, "architectures": ["HF_ColBERT"]}
    write_backbone(folder, weights, config, {"model_type": "colbert", **fields})
    write_json(folder / "artifact.metadata", metadata)
    write_tokenizer(folder, save_tokenizer, fields["document_length"])
    swallow_space(folder / "tokenizer.json", [metadata["query_token_id"], metadata["doc_token_id"]])


def write_custom_code(
    folder: Path,
    state_dict: dict[str, Tensor],
    config: dict,
    code_files: Iterable[Path],
    save_tokenizer: SaveTokenizer,
) -> None:
    """Write a model that no stock class can hold (untied encoders, output norm), and the code that can.

    Loads in `AutoModel` with `trust_remote_code=True`.

    Args:
        folder: empty folder to fill.
        state_dict: the weights of our class.
        config: our own config, with its `auto_map`.
        code_files: the flat Python files that the map leads to.
        save_tokenizer: saves the tokenizer into a folder.

    Raises:
        ValueError: the config has no `auto_map`.
    """
    if "auto_map" not in config:
        raise ValueError("config has no auto_map: nobody could find the code")
    config = {**config, "encoder_config": without_paths(config["encoder_config"])}
    write_weights(folder, state_dict)
    write_json(folder / "config.json", without_paths(config))
    for file in code_files:
        shutil.copyfile(file, folder / file.name)
    write_tokenizer(folder, save_tokenizer, config["document_length"])


def write_backbone(folder: Path, state_dict: dict[str, Tensor], config: dict, fields: dict) -> None:
    """Write config.json and model.safetensors of a stock model, our fields under their key."""
    if "model_type" not in config:
        raise ValueError(f"the backbone's config has no model_type, only {sorted(config)}")
    write_weights(folder, state_dict)
    write_json(folder / "config.json", {**without_paths(config), FIELDS_KEY: fields})


def write_tokenizer(folder: Path, save_tokenizer: SaveTokenizer, length: int) -> None:
    """Write tokenizer files that cut at `length` tokens when asked to, and do not tell where they were made."""
    save_tokenizer(str(folder))
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    public = {key: value for key, value in config.items() if key not in TOKENIZER_TRACES}
    write_json(path, {**public, "model_max_length": length})
    fast = folder / "tokenizer.json"
    if fast.exists():
        # Whatever the last call padded or cut to is saved with it, and older readers would apply it.
        write_json(fast, json.loads(fast.read_text(encoding="utf-8")) | {"truncation": None, "padding": None})


def swallow_space(path: Path, markers: list[str]) -> None:
    """Make markers take the space behind them along, where a word after a space is another token (bytes, as GPT-2).

    sentence-transformers writes marker, space and text, and would begin the text with another token than in training.
    """
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    if "ByteLevel" not in json.dumps(tokenizer["pre_tokenizer"]):
        return
    added = [token for token in tokenizer["added_tokens"] if token["content"] not in markers]
    options = {"single_word": False, "lstrip": False, "rstrip": True, "normalized": False, "special": True}
    ids = tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    added += [{"id": ids[marker], "content": marker} | options for marker in markers]
    tokenizer["added_tokens"] = sorted(added, key=lambda token: token["id"])
    write_json(path, tokenizer)


def without_paths(config: dict) -> dict:
    """Return a config without the place it was loaded from."""
    return {key: value for key, value in config.items() if key != "_name_or_path"}


def write_weights(folder: Path, state_dict: dict[str, Tensor]) -> None:
    """Write model.safetensors, readable for everybody; of weights that are one tensor by two names, the first name."""
    path = folder / "model.safetensors"
    tensors, seen = {}, set()
    for name, tensor in state_dict.items():
        place = tensor.device, tensor.data_ptr(), tensor.shape
        if tensor.numel() == 0 or place not in seen:
            tensors[name] = tensor.detach().cpu().contiguous()
        seen.add(place)
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors keeps it from everybody else


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON with sorted keys, the same bytes for the same value."""
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
