"""The teacher: a cross-encoder that scores pairs of a query and a document.

Scores are raw logits, whatever activation the checkpoint configures: distillation compares margins, and a sigmoid
flattens them. A score is a function of its pair: which other pairs are in the same call decides only padding and the
shapes of matrix products, and so moves a score by rounding. On 461 pairs of the Python documentation and a six-layer
MiniLM the largest move was 3e-6 of the scores' standard deviation in float32, 2e-2 in bfloat16.
"""

import logging

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.batching import run_in_blocks
from m3se.modeling.checkpoints import FIELDS_KEY, read_json
from m3se.modeling.cross_encoder import CrossEncoder, CrossEncoderConfig
from m3se.trainers.devices import autocast_dtype
from m3se.trainers.errors import InputError
from m3se.trainers.storage.checksums import refuse_damaged_model
from m3se.trainers.teacher.fingerprint import classifier_fingerprint, config_description, tokenizer_description
from m3se.trainers.teacher.pair_inputs import PairEncoder


logger = logging.getLogger(__name__)

# Pairs that are tokenised and sorted by length together. Part of a score's last bits, so not an option.
CHUNK_PAIRS = {"cpu": 512, "cuda": 16384}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class PairScorer:
    """Scores pairs of texts with a sequence classifier of one logit, or of two (their difference is the score).

    `name` is what it was loaded from; `fingerprint` identifies whatever decides a score: weights, config, tokeniser,
    lengths and number format.
    """

    def __init__(self, name: str, classifier: PreTrainedModel, encoder: PairEncoder, dtype: torch.dtype):
        if classifier.config.num_labels not in (1, 2):
            raise InputError(
                f"teacher {name}: expected a classifier with 1 logit, or 2 (not relevant, relevant); "
                f"it has {classifier.config.num_labels}"
            )
        self.name = name
        self.encoder = encoder
        self.dtype = dtype
        description = [
            config_description(classifier.config),
            tokenizer_description(encoder.tokenizer),
            encoder.lengths,
        ]
        self.fingerprint = classifier_fingerprint(classifier, *description, str(dtype))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.classifier = classifier.to(self.device).eval()
        align_weights(self.classifier)
        self.chunk_pairs = CHUNK_PAIRS[self.device.type]
        if dtype is torch.bfloat16:
            keep_head_in_float32(self.classifier, self.device.type)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        dtype: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
    ) -> "PairScorer":
        """Load a teacher: our own cross-encoder (checkpoint or published folder), or any sequence classifier that
        reads pairs (Hub id or folder, sentence-transformers CrossEncoder checkpoints among them).

        Args:
            dtype: "float32" or "bfloat16" (the encoder under autocast; the head stays float32). None: bfloat16 where
                the processor multiplies in it.
            query_length, document_length: tokens a text may have, special tokens included. None: what our config
                says, or for other models no limit but the model's positions.

        Raises:
            InputError: no such model, no safetensors weights, a head that is not in the checkpoint, a number of
                logits other than 1 or 2, lengths that do not fit.
        """
        if dtype is not None and dtype not in DTYPES:
            raise InputError(f"teacher dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
        classifier, tokenizer, fields = load_classifier(str(name_or_path))
        joined = fields is not None
        if joined:
            query_length = fields["query_length"] if query_length is None else query_length
            document_length = fields["document_length"] if document_length is None else document_length
        encoder = PairEncoder(tokenizer, classifier, joined, query_length, document_length)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        scorer = cls(str(name_or_path), classifier, encoder, DTYPES[dtype] if dtype else autocast_dtype(device))
        logger.info("teacher %s: %s on %s, fingerprint %s", name_or_path, scorer.dtype, device, scorer.fingerprint)
        return scorer

    @torch.inference_mode()
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
        with own:
            for start in range(0, len(queries), self.chunk_pairs):
                chunk = slice(start, start + self.chunk_pairs)
                scores[chunk] = self._score_chunk(queries[chunk], documents[chunk], own if bar is None else bar)
        return scores

    def _score_chunk(self, queries: list[str], documents: list[str], bar: tqdm) -> np.ndarray:
        inputs = {name: values.to(self.device) for name, values in self.encoder(queries, documents).items()}

        def classify(rows: Tensor, length: int) -> Tensor:
            logits = self.classifier(**{name: values[rows, :length] for name, values in inputs.items()}).logits
            bar.update(len(rows))
            return logits.float()

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            logits = run_in_blocks(classify, inputs["attention_mask"].sum(dim=1))
        scores = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
        return scores.cpu().numpy()


def load_classifier(name: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict | None]:
    """A sequence classifier and its tokeniser; the fields of our config if it is one of ours, else None."""
    refuse_damaged_model(name)
    try:
        config = read_json(name, "config.json")
        if config is None:
            raise InputError(f"teacher {name}: it has no config.json; expected a cross-encoder's folder or Hub id")
        ours = config.get("model_type") == CrossEncoderConfig.model_type
        loader = CrossEncoder if ours else AutoModelForSequenceClassification
        model, loading = loader.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, use_safetensors=True, trust_remote_code=False
        )
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except InputError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"teacher {name}: {str(error).strip().splitlines()[0]}") from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise InputError(
            f"teacher {name}: the checkpoint lacks {len(missing)} weights, {missing[0]} among them; "
            "expected a trained cross-encoder, not a bare encoder"
        )
    if ours:
        return model.encoder, tokenizer, model.config.to_dict()
    return model, tokenizer, config.get(FIELDS_KEY)


def align_weights(classifier: PreTrainedModel) -> None:
    """Copy the weights out of the mapped file: matrix kernels round differently where memory is not aligned, and the
    size of the file's header would decide a score's last bit."""
    for weights in classifier.parameters():
        weights.data = weights.data.clone()


def keep_head_in_float32(classifier: PreTrainedModel, device_type: str) -> None:
    """Take the last linear layer out of autocast: a bfloat16 logit has 8 bits, and documents would tie."""
    layers = [layer for layer in classifier.modules() if isinstance(layer, torch.nn.Linear)]
    head = next(layer for layer in reversed(layers) if layer.out_features == classifier.config.num_labels)
    head.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    head.forward = torch.autocast(device_type, enabled=False)(head.forward)
