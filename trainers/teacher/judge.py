"""Teachers that judge: language models that answer whether a document is relevant.

The score is a difference of logits, such as yes − no, after a prompt that holds query and document: the log-odds of
the two answers, unclipped. A decoder is read at its last position, an encoder-decoder at its decoder's first step.
"""

import inspect
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from m3se.trainers.devices import choose_dtype, default_device
from m3se.trainers.errors import InputError
from m3se.trainers.models.inspection import inspect_model, load_tokenizer
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.teacher.pair_scorer import KINDS, PairScorer, load_weights
from m3se.trainers.teacher.prompts import PromptEncoder, answer_ids
from m3se.trainers.teacher.templates import find_template


logger = logging.getLogger(__name__)


class Judge(PairScorer):
    """A scorer of pairs of texts by a language model that answers after a prompt.

    Attributes:
        encoder: makes prompts of pairs, a `PromptEncoder`.
        The others are those of `PairScorer`; `classifier` is a language model whose head has the answers only.
    """

    kind = "judge"

    @property
    def scale(self) -> str:
        """Name the scale of the scores: log-odds of two answers, or a logit that has no zero of its own."""
        return "log-odds" if self.encoder.template.false is not None else f"logit {self.fingerprint}"

    @property
    def settings(self) -> dict:
        """Return what decides how texts are read, for reports."""
        return {"kind": self.kind, **self.encoder.lengths}

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path | ModelInfo,
        dtype: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        device: str | torch.device | None = None,
        template: str | None = None,
    ) -> "Judge":
        """Load a language model as a teacher and try it on two short texts.

        Args:
            model: folder or Hub id, or what `ModelInfo.read` found there.
            dtype: as `PairScorer.from_pretrained`.
            query_length, document_length: tokens of a text in the prompt. None: what the model's positions allow.
            device: the processor to run on (default: a GPU if there is one).
            template: name of a built-in template, or a file (default: the model's own, see `find_template`).

        Raises:
            InputError: no such model or template, answers that are no single tokens, weights that do not fit, or
                lengths that do not.
        """
        device = torch.device(device or default_device())
        compute = choose_dtype(dtype, device)
        info = model if isinstance(model, ModelInfo) else ModelInfo.read(model)
        if not info.generates:
            raise InputError(f"teacher {info.name} is {KINDS[info.kind]}; expected a language model that judges")
        tokenizer = load_tokenizer(info.name)
        if tokenizer.pad_token is None:  # never read, since it is masked
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        chosen = find_template(info, tokenizer, template)
        answers = answer_ids(tokenizer, chosen, info.name)
        loader = AutoModelForSeq2SeqLM if info.config.get("is_encoder_decoder") else AutoModelForCausalLM
        language_model = load_weights(loader, info.name, "a language model with its head")
        encoder = PromptEncoder(tokenizer, language_model, chosen, query_length, document_length)
        keep_answers(language_model, answers)
        scorer = cls(info.name, language_model, encoder, compute, device)
        inspect_model(language_model, tokenizer, info.name, scorer.probe_scores)
        logger.info("teacher %s: %s on %s, fingerprint %s", info.name, compute, device.type, scorer.fingerprint)
        return scorer

    def _logits(self, inputs: dict[str, Tensor], rows: Tensor, length: int) -> Tensor:
        """Return the logits of the answers [n, 1 or 2] for some prompts, cut to the longest of `length` tokens."""
        config = self.classifier.config
        if config.is_encoder_decoder:
            start = torch.full((len(rows), 1), decoder_start(config), device=self.device)
            selected = {name: values[rows, :length] for name, values in inputs.items()}
            return self.classifier(**selected, decoder_input_ids=start, use_cache=False).logits[:, -1]
        selected = {name: values[rows, -length:] for name, values in inputs.items()}
        if "logits_to_keep" in inspect.signature(self.classifier.forward).parameters:
            selected["logits_to_keep"] = 1
        return self.classifier(**selected, use_cache=False).logits[:, -1]


def keep_answers(model: PreTrainedModel, answers: list[int]) -> None:
    """Replace the head over the vocabulary by its rows of the answers.

    Logits of other tokens decide nothing, and in float32 the whole head would be as large as a small model.
    """
    head = model.get_output_embeddings()
    rows = nn.Linear(head.in_features, len(answers), bias=getattr(head, "bias", None) is not None)
    with torch.no_grad():
        rows.weight.copy_(head.weight[answers])
        if rows.bias is not None:
            rows.bias.copy_(head.bias[answers])
    model.set_output_embeddings(rows)


def decoder_start(config) -> int:
    """Return the token that a decoder starts with: its own, else padding, as T5 does."""
    start = config.decoder_start_token_id
    return config.pad_token_id if start is None else start
