"""Teachers: cross-encoders that score pairs of a query and a document.

Scores are raw logits, whatever activation the checkpoint configures: distillation compares margins, and a sigmoid
flattens them. A score is a function of its pair: which other pairs are in the same call decides only padding and the
shapes of matrix products, and so moves a score by rounding. On 461 pairs of the Python documentation and a six-layer
MiniLM the largest move was 3e-6 of the scores' standard deviation in float32, 2e-2 in bfloat16.
"""

import logging
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from m3se.modeling.batching import run_in_blocks
from m3se.modeling.checkpoints import FIELDS_KEY
from m3se.modeling.cross_encoder import CrossEncoder, CrossEncoderConfig
from m3se.trainers.devices import choose_dtype, default_device
from m3se.trainers.errors import InputError, first_line
from m3se.trainers.models.inspection import inspect_model, load_tokenizer, probe_texts, share_padding
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.teacher.fingerprint import classifier_fingerprint, config_description, tokenizer_description
from m3se.trainers.teacher.pair_inputs import PairEncoder


logger = logging.getLogger(__name__)

# Pairs that are tokenised and sorted by length together. Part of a score's last bits, so not an option.
CHUNK_PAIRS = {"cpu": 512, "cuda": 16384}
# What messages call the kinds of `ModelInfo`.
KINDS = {
    "dual_encoder": "a dual encoder",
    "colbert": "a ColBERT model",
    "cross_encoder": "a cross-encoder",
    "sentence_transformers": "a sentence-transformers model that embeds texts",
    "static": "a static embedding of words",
    "encoder": "a bare encoder",
    "sparse": "a SparseEncoder, which embeds texts in vectors over its vocabulary",
    "multi_vector": "a MultiVectorEncoder, which embeds every token of a text",
    "causal": "a CrossEncoder without a classifier, whose score is an answer to a prompt",
}


class PairScorer:
    """A scorer of pairs of texts by a sequence classifier of one logit, or of two (their difference is the score).

    Attributes:
        kind, scale: name what it is, and the scale of its scores, which other kinds do not share.
        name: folder or Hub id that it was loaded from.
        encoder: tokenises pairs.
        dtype: number format that matrices are multiplied in.
        fingerprint: identifies what decides a score: weights, config, tokenizer, lengths and number format.
        device: the processor it runs on.
        backend: what reports say of the library that computes it; empty for torch.
    """

    kind = scale = "cross_encoder"
    backend: dict = {}

    def __init__(
        self,
        name: str,
        classifier: PreTrainedModel,
        encoder: PairEncoder,
        dtype: torch.dtype,
        device: torch.device | None = None,
    ):
        self.name = name
        self.encoder = encoder
        self.dtype = dtype
        description = config_description(classifier.config), tokenizer_description(encoder.tokenizer)
        self.fingerprint = classifier_fingerprint(classifier, *description, encoder.lengths, str(dtype))
        self.device = torch.device(device or default_device())
        self.classifier = classifier.to(self.device).eval()
        align_weights(self.classifier)
        self.chunk_pairs = CHUNK_PAIRS.get(self.device.type, CHUNK_PAIRS["cuda"])
        if dtype is torch.bfloat16:
            keep_head_in_float32(self.classifier, self.device.type)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | ModelInfo,
        dtype: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        device: str | torch.device | None = None,
    ) -> "PairScorer":
        """Load a teacher and try it on two short texts.

        It is a cross-encoder of ours (checkpoint or published folder), or any sequence classifier that reads pairs,
        such as a CrossEncoder of sentence-transformers.

        Args:
            model: folder or Hub id, or what `ModelInfo.read` found there.
            dtype: "float32" or "bfloat16" (the encoder under autocast; the head stays float32). None or "auto":
                bfloat16 where the processor multiplies in it.
            query_length, document_length: tokens a text may have, special tokens included. None: the lengths of our
                config, or for other models no limit but the model's positions.
            device: the processor to run on (default: a GPU if there is one).

        Raises:
            InputError: no such model, another kind of model, no safetensors weights, a head that is not in the
                checkpoint, a number of logits other than 1 or 2, lengths or a tokenizer that do not fit.
        """
        device = torch.device(device or default_device())
        compute = choose_dtype(dtype, device)
        info = model if isinstance(model, ModelInfo) else ModelInfo.read(model)
        classifier, fields = load_classifier(info)
        tokenizer = load_tokenizer(info.name)
        share_padding(classifier, tokenizer, info.name)
        if fields is not None:
            query_length = fields["query_length"] if query_length is None else query_length
            document_length = fields["document_length"] if document_length is None else document_length
        joining = {name: (fields or {}).get(name) for name in ("separator_ids", "keep_document_start")}
        encoder = PairEncoder(tokenizer, classifier, fields is not None, query_length, document_length, **joining)
        scorer = cls(info.name, classifier, encoder, compute, device)
        inspect_model(classifier, tokenizer, info.name, scorer.probe_scores)
        if info.prompts:
            logger.warning("teacher %s: its prompts are not put before the texts: %s", info.name, info.prompts)
        logger.info("teacher %s: %s on %s, fingerprint %s", info.name, compute, device.type, scorer.fingerprint)
        return scorer

    @property
    def settings(self) -> dict:
        """Return what decides how texts are read and computed, for reports."""
        return self.encoder.lengths | self.backend

    def probe_scores(self, texts: list[str]) -> np.ndarray:
        """Score N texts as documents of a query of one word to four, in float32: [N, 4]."""
        words = probe_texts(self.encoder.tokenizer, length=4)[1].split()
        columns = []
        for count in range(1, 5):
            queries = [" ".join(words[:count])] * len(texts)
            columns.append(self._score_chunk(queries, texts, torch.float32))
        return np.stack(columns, axis=1)

    def score(
        self, queries: list[str], documents: list[str], progress: bool = True, bar: tqdm | None = None
    ) -> np.ndarray:
        """Score pair i = (queries[i], documents[i]) -> float32 [n]; sorted by length inside, returned in order.

        Progress goes to `bar`, or to one of its own if `progress`.
        """
        if len(queries) != len(documents):
            raise ValueError(f"pairs need as many queries as documents, got {len(queries)} and {len(documents)}")
        scores = np.empty(len(queries), dtype=np.float32)
        own = tqdm(total=len(queries), desc="teacher", unit="pair", disable=bar is not None or not progress, delay=1)
        bar = own if bar is None else bar
        with own:
            for start in range(0, len(queries), self.chunk_pairs):
                chunk = slice(start, start + self.chunk_pairs)
                scores[chunk] = self._score_chunk(queries[chunk], documents[chunk], self.dtype, bar)
        return scores

    @torch.inference_mode()
    def _score_chunk(
        self, queries: list[str], documents: list[str], dtype: torch.dtype, bar: tqdm | None = None
    ) -> np.ndarray:
        """Score pairs that are tokenised together: float32 [n]."""
        inputs = {name: values.to(self.device) for name, values in self.encoder(queries, documents).items()}

        def classify(rows: Tensor, length: int) -> Tensor:
            """Return the logits of some pairs, cut to the length of the longest."""
            logits = self._logits(inputs, rows, length)
            if bar is not None:
                with bar.get_lock():  # blocks are scored by several threads
                    bar.update(len(rows))
            return logits.float()

        with torch.autocast(self.device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            logits = run_in_blocks(classify, inputs["attention_mask"].sum(dim=1))
        scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        return scores.cpu().numpy()

    def _logits(self, inputs: dict[str, Tensor], rows: Tensor, length: int) -> Tensor:
        """Return the logits [n, 1 or 2] of some pairs, cut to `length` tokens."""
        return self.classifier(**{name: values[rows, :length] for name, values in inputs.items()}).logits


def load_classifier(info: ModelInfo) -> tuple[PreTrainedModel, dict | None]:
    """Load a sequence classifier, with the fields of our config if it is one of ours (else None).

    Raises:
        InputError: another kind of model, or weights that do not fit or lack the head.
    """
    if info.kind not in ("cross_encoder", "encoder"):  # a bare encoder has no head, unless its config hides it
        raise InputError(f"teacher {info.name} is {KINDS[info.kind]}; expected a cross-encoder")
    is_checkpoint = info.config.get("model_type") == CrossEncoderConfig.model_type
    loader = CrossEncoder if is_checkpoint else AutoModelForSequenceClassification
    model = load_weights(loader, info.name, "a trained cross-encoder, not a bare encoder")
    classifier = model.encoder if is_checkpoint else model
    if classifier.config.num_labels not in (1, 2):
        raise InputError(
            f"teacher {info.name}: expected a classifier with 1 logit, or 2 (not relevant, relevant); "
            f"it has {classifier.config.num_labels}"
        )
    return classifier, model.config.to_dict() if is_checkpoint else info.config.get(FIELDS_KEY)


def load_weights(loader: type, name: str, expected: str) -> PreTrainedModel:
    """Load a model in float32 with all of its weights.

    Args:
        loader: the class whose `from_pretrained` does it.
        name: folder or Hub id.
        expected: what a checkpoint that lacks weights is not.

    Raises:
        InputError: weights that do not fit, or that are not there.
    """
    try:
        model, loading = loader.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, use_safetensors=True, trust_remote_code=False
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, ValueError, SafetensorError, StrictDataclassError) as error:
        raise InputError(f"teacher {name}: {first_line(error)}") from error
    if missing := sorted(loading["missing_keys"]):
        raise InputError(
            f"teacher {name}: the checkpoint lacks {len(missing)} weights, {missing[0]} among them; "
            f"expected {expected}"
        )
    return model


def align_weights(classifier: PreTrainedModel) -> None:
    """Copy the weights out of the mapped file: matrix kernels round differently where memory is not aligned, and the
    size of the file's header would decide a score's last bit."""
    for weights in classifier.parameters():
        weights.data = weights.data.clone()


def keep_head_in_float32(classifier: PreTrainedModel, device_type: str) -> None:
    """Take the last linear layer out of autocast: a bfloat16 logit has 8 bits, and documents would tie."""
    head = classifier.get_output_embeddings()  # of a language model
    if head is None:
        layers = [layer for layer in classifier.modules() if isinstance(layer, torch.nn.Linear)]
        head = next(layer for layer in reversed(layers) if layer.out_features == classifier.config.num_labels)
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    head.forward = torch.autocast(device_type, enabled=False)(head.forward)
