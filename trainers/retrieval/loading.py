"""From a folder or Hub id to a scorer: what kind of model it holds is read from its files."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer

from m3se.modeling.checkpoints import FIELDS_KEY, read_json
from m3se.modeling.colbert import ColBERT
from m3se.modeling.colbert_checkpoints import layout
from m3se.modeling.dual_encoder import DualEncoder
from m3se.trainers.devices import autocast_dtype
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.embed_texts import encode_texts
from m3se.trainers.retrieval.scorers import ColBERTScorer, DenseScorer, PairwiseScorer, Scorer
from m3se.trainers.storage.checksums import refuse_damaged_model
from m3se.trainers.teacher.fingerprint import config_description, embedder_fingerprint, tokenizer_description
from m3se.trainers.teacher.pair_scorer import PairScorer


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
EMBEDDERS = ("dual_encoder", "sentence_transformers", "encoder")  # kinds that embed a text in one vector
POOLINGS = ("cls", "mean")


def load_scorer(
    name_or_path: str, dtype: str = "auto", pooling: str | None = None, device: str | torch.device | None = None
) -> Scorer:
    """A scorer for a checkpoint or published folder of ours, or any classifier, sentence-transformers or AutoModel
    checkpoint.

    `dtype` is "float32", "bfloat16" (autocast) or "auto": bfloat16 where the processor multiplies in it. `pooling`
    ("cls" or "mean") says how to use a bare encoder, which does not know it itself. Raises InputError.
    """
    kind = model_kind(name_or_path)
    if pooling is not None and kind != "encoder":
        raise InputError(f"{name_or_path} is a {kind} model and has its own pooling; leave --pooling out")
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    compute = compute_dtype(dtype, device)
    try:
        if kind == "sentence_transformers":
            return load_sentence_transformer(name_or_path, device, compute)
        if kind == "colbert":
            return load_colbert(name_or_path, device, compute)
        if kind == "cross_encoder":
            return PairwiseScorer(PairScorer.from_pretrained(name_or_path, None if dtype == "auto" else dtype))
        return load_dual_encoder(name_or_path, pooling, device, compute)
    except InputError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{name_or_path}: cannot be loaded as a {kind} model: {one_line(error)}") from error


def load_embedder(
    name_or_path: str, dtype: str = "auto", pooling: str | None = None, device: str | torch.device | None = None
) -> DenseScorer:
    """As `load_scorer`, for models that embed a text in one vector. Raises InputError for any other."""
    kind = model_kind(name_or_path)
    if kind not in EMBEDDERS:
        raise InputError(f"{name_or_path} is a {kind} model; expected one that embeds a text in one vector")
    return load_scorer(name_or_path, dtype, pooling, device)


def compute_dtype(name: str, device: torch.device) -> torch.dtype:
    if name != "auto" and name not in DTYPES:
        raise InputError(f"dtype: expected auto, {' or '.join(DTYPES)}, got {name!r}")
    return autocast_dtype(device) if name == "auto" else DTYPES[name]


def model_kind(name_or_path: str) -> str:
    """ "dual_encoder", "cross_encoder", "colbert", "sentence_transformers" or "encoder" (bare), from config.json and
    modules.json. Raises InputError when there is no config.json to be found."""
    path = Path(name_or_path)
    if not path.exists() and (path.is_absolute() or name_or_path.startswith(".") or len(path.parts) > 2):
        raise InputError(f"{name_or_path}: no such model folder")
    refuse_damaged_model(path)
    try:
        config = read_json(name_or_path, "config.json")
    except OSError as error:
        raise InputError(f"{name_or_path}: no such folder, and no model of the Hub within reach") from error
    if config is None:
        raise InputError(f"{name_or_path}: not a model folder: config.json is missing")
    architectures = config.get("architectures") or []
    ours = config.get(FIELDS_KEY, {}).get("model_type", config.get("model_type"))
    if ours in ("dual_encoder", "cross_encoder", "colbert"):
        return ours
    if any("ForSequenceClassification" in name for name in architectures):
        return "cross_encoder"
    if FIELDS_KEY in config:
        return "dual_encoder"
    if layout(name_or_path) is not None:
        return "colbert"
    return "encoder" if read_json(name_or_path, "modules.json") is None else "sentence_transformers"


def embedding_size(name_or_path: str) -> int:
    """Numbers of the vector that a model makes of a text or, for a cross-encoder, of a pair."""
    if model_kind(name_or_path) == "sentence_transformers":
        modules = read_json(name_or_path, "modules.json")
        dense = [module["path"] for module in modules if module["type"].rpartition(".")[2] == "Dense"]
        if dense:
            return read_json(name_or_path, f"{dense[-1]}/config.json")["out_features"]
    config = read_json(name_or_path, "config.json")
    fields = {**config, **config.get(FIELDS_KEY, {})}
    return fields.get("projection_size") or (fields.get("encoder_config") or fields)["hidden_size"]


def load_dual_encoder(name_or_path: str, pooling: str | None, device: torch.device, dtype: torch.dtype) -> DenseScorer:
    """Our own model, or a bare encoder with a pooling."""
    if model_kind(name_or_path) != "encoder":
        model = DualEncoder.from_pretrained(name_or_path)
    elif pooling is None:
        raise InputError(f"{name_or_path} is a bare encoder: say how to pool its tokens with --pooling cls or mean")
    else:
        model = DualEncoder.from_encoder(name_or_path, pooling=pooling)
    model, tokenizer = model.to(device).eval(), AutoTokenizer.from_pretrained(name_or_path)

    def encode(texts, side, bar=None):
        return encode_texts(model, tokenizer, texts, side, dtype, bar)

    description = config_description(model.config), tokenizer_description(tokenizer)
    return DenseScorer(encode, embedder_fingerprint(model, *description, str(dtype)), device)


def load_colbert(name_or_path: str, device: torch.device, dtype: torch.dtype) -> ColBERTScorer:
    model = ColBERT.from_pretrained(name_or_path).to(device).eval()
    return ColBERTScorer(model, AutoTokenizer.from_pretrained(name_or_path), dtype)


def load_sentence_transformer(name_or_path: str, device: torch.device, dtype: torch.dtype) -> DenseScorer:
    """A model used as its authors ship it: own pooling, prompts, lengths and similarity (dot or cosine)."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError(f"{name_or_path} needs sentence-transformers: pip install sentence-transformers") from error
    model = SentenceTransformer(name_or_path, device=str(device), model_kwargs={"use_safetensors": True})
    if model.similarity_fn_name not in ("cosine", "dot"):
        raise InputError(f"{name_or_path} compares by {model.similarity_fn_name}; expected cosine or dot")
    options = {"normalize_embeddings": model.similarity_fn_name == "cosine", "show_progress_bar": False}

    def encode(texts, side, bar=None):
        encode_side = model.encode_query if side == "query" else model.encode_document
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            embeddings = encode_side(list(texts), **options)
        if bar is not None:
            bar.update(len(texts))
        return embeddings.astype("float32")

    description = repr(model), model.prompts, model.similarity_fn_name, tokenizer_description(model.tokenizer)
    return DenseScorer(encode, embedder_fingerprint(model, *description, str(dtype)), device)


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
