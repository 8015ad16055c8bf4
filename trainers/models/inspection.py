"""Checks of a model and its tokenizer together, before anything expensive is done with them."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from m3se.modeling.base import RankingModel
from m3se.modeling.colbert import ColBERT
from m3se.modeling.cross_encoder import CrossEncoder, join_pairs
from m3se.trainers.errors import InputError, first_line, shorten
from m3se.trainers.models.text_inputs import TextInputs


if TYPE_CHECKING:
    from peft import PeftModel

SAME = 1e-5  # relative difference of two outputs: below it, two texts are the same to the model
SAVED = 1e-2  # relative difference after saving: another processor may compute the second output
PADDED = 1e-3  # relative difference of the same text's output alone and beside a longer one


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder or Hub id, padding on the right as our models need it.

    Raises:
        InputError: no such model, code of its own, files or a library that it needs are missing, no words in it.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the libraries below raise a bare Exception for some vocabularies
        raise InputError(f"{name}: its tokenizer cannot be loaded: {first_line(error)}") from error
    refuse_made_up(tokenizer, name)
    tokenizer.padding_side = "right"
    return tokenizer


def inspect_model(
    model: "PreTrainedModel | PeftModel",
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    outputs: Callable[[list[str]], Tensor | np.ndarray] | None = None,
) -> None:
    """Raise InputError when a model and a tokenizer do not work together; costs a forward pass of two texts.

    A padding token that only the tokenizer knows is written into the model's config.

    Args:
        model: the model, whose input embeddings must cover the tokenizer.
        tokenizer: with it texts are tokenised.
        name: what messages call the model.
        outputs: N texts -> embeddings or scores [N, ...], computed in float32. None: those of `model`, which must be
            of ours.
    """
    if hasattr(model, "get_base_model"):  # of peft, which takes a second to import
        model = model.get_base_model()
    refuse_made_up(tokenizer, name)
    refuse_tokens_beyond(model, tokenizer, name)
    if isinstance(model, CrossEncoder):
        refuse_other_pairs(model, tokenizer, name)
    if isinstance(model, RankingModel):
        refuse_long_prompts(model, tokenizer)
    share_padding(model, tokenizer, name)
    short, long = probe_texts(tokenizer, getattr(model.config, "document_length", 8))
    compute = outputs or partial(own_outputs, model, tokenizer, long)
    try:
        values, alone = run(model, compute, [short, long]), run(model, compute, [short])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever an architecture's own code raises
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{name} cannot be used here: a pass over two texts fails with {reason}") from error
    if not values.isfinite().all():
        raise InputError(f"{name} makes NaN or infinite numbers of two short texts; its weights are damaged")
    if difference(*values) < SAME:
        raise InputError(
            f"{name} makes the same of two different texts; a causal model needs pooling last or mean, "
            "other models have lost their weights or their tokenizer"
        )
    if difference(values[0], alone[0]) > PADDED:
        raise InputError(f"{name} takes padding for text: the same text has another output beside a longer one")


def check_saved(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Load a model of ours and its tokenizer from the folder that they were just saved in.

    Raises:
        RuntimeError: they cannot be loaded, or do not make the same numbers of two texts as before.
    """
    texts = list(probe_texts(tokenizer, model.config.document_length))
    expected = run(model, partial(own_outputs, model, tokenizer, texts[-1]), texts)
    try:
        loaded, loaded_tokenizer = type(model).from_pretrained(folder), load_tokenizer(str(folder))
    except Exception as error:
        raise RuntimeError(f"{folder} was written but cannot be loaded again: {first_line(error)}") from error
    values = run(loaded, partial(own_outputs, loaded, loaded_tokenizer, texts[-1]), texts)
    if difference(expected, values) > SAVED:
        raise RuntimeError(f"{folder} was written but scores otherwise when it is loaded again")


def refuse_made_up(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise InputError for a tokenizer without words: transformers makes one up where its files are missing."""
    if len(list(islice(known_words(tokenizer), 2))) < 2:
        raise InputError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens and no words among them; "
            "save the model's tokenizer beside it (tokenizer.json)"
        )


def refuse_tokens_beyond(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise InputError when the tokenizer has ids for which the model has no embedding."""
    try:
        embeddings = model.get_input_embeddings()
    except NotImplementedError:  # CANINE hashes characters
        return
    tokens = max(tokenizer.get_vocab().values()) + 1
    if tokens > getattr(embeddings, "num_embeddings", tokens):
        raise InputError(
            f"{name}: the tokenizer has {tokens} tokens, the model embeddings for {embeddings.num_embeddings}; "
            "resize them (model.resize_token_embeddings) and train the model with them"
        )


def refuse_other_pairs(model: CrossEncoder, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise InputError for a tokenizer that pairs texts in another way than the model is told to."""
    texts = "a query", "a document"
    inputs = [torch.tensor([tokenizer(text)["input_ids"]]) for text in texts]
    query, document = ((ids, torch.ones_like(ids)) for ids in inputs)
    ids, _, types = join_pairs(
        *query, *document, 0, model.config.separator_ids or (), model.config.keep_document_start
    )
    pair = tokenizer(*texts, return_token_type_ids=True)
    has_types = model.config.encoder_config.to_dict().get("type_vocab_size", 1) > 1
    if pair["input_ids"] != ids[0].tolist() or (has_types and pair["token_type_ids"] != types[0].tolist()):
        raise InputError(
            f"{name}: its tokenizer makes a pair of other tokens or token types than the model was told to read; "
            "it can score as a teacher but not be trained as a cross-encoder here"
        )


def refuse_long_prompts(model: RankingModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError for a prompt that leaves no room for a word within the length of its side."""
    for side in ("query", "document"):
        prompt, length = getattr(model.config, f"{side}_prompt"), getattr(model.config, f"{side}_length")
        has_marker = getattr(model.config, f"{side}_marker_id", None) is not None
        tokens = len(tokenizer(prompt)["input_ids"]) + has_marker
        if prompt and tokens >= length:
            raise InputError(
                f"{side}_prompt: {shorten(prompt)} has {tokens} tokens, special ones included, and leaves no room "
                f"for a word within {side}_length {length}"
            )


def share_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Tell a model without a padding token the tokenizer's; raises InputError when that has none either."""
    if tokenizer.pad_token is None:
        raise InputError(
            f"{name}: its tokenizer has no padding token; choose one, such as tokenizer.pad_token = "
            f"{tokenizer.eos_token or tokenizer.unk_token!r}, and save the tokenizer beside the model"
        )
    configs = [model.config, getattr(model.config, "encoder_config", None)]
    configs += [module.config for module in model.children() if isinstance(module, PreTrainedModel)]
    for config in configs:
        if config is not None and getattr(config, "pad_token_id", None) is None:
            config.pad_token_id = tokenizer.pad_token_id


def known_words(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Yield different words of letters that the tokenizer knows, from the middle of its vocabulary on."""
    size, seen = len(tokenizer), set()
    for token in chain(range(size // 2, size), range(size // 2)):
        word = tokenizer.decode([token], skip_special_tokens=True).strip()
        if word.isalpha():
            ids = tokenizer(word, add_special_tokens=False)["input_ids"]
            if ids and tokenizer.unk_token_id not in ids and tuple(ids) not in seen:
                seen.add(tuple(ids))
                yield word


def probe_texts(tokenizer: PreTrainedTokenizerBase, length: int) -> tuple[str, str]:
    """Make a text of two words and one of `length`, which begin with the same word and go on with others."""
    first, second, *more = islice(known_words(tokenizer), 6)
    return f"{first} {second}", " ".join([first, *islice(cycle(more or [first]), length - 1)])


@torch.inference_mode()
def run(model: PreTrainedModel, outputs: Callable[[list[str]], Tensor | np.ndarray], texts: list[str]) -> Tensor:
    """Return the numbers that a model in evaluation mode makes of N texts: [N, M] float64."""
    was_training = model.training
    model.eval()
    try:
        return torch.as_tensor(outputs(texts)).double().cpu().reshape(len(texts), -1)
    finally:
        model.train(was_training)


def own_outputs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, query: str, texts: list[str]) -> Tensor:
    """Return the embeddings of N documents by a dual encoder or ColBERT, or their scores for a query: [N, M]."""
    inputs = TextInputs.for_model(tokenizer, model.config)
    ids, mask = (tensor.to(model.device) for tensor in inputs(texts, "document"))
    if isinstance(model, CrossEncoder):
        query_ids, query_mask = (tensor.to(model.device) for tensor in inputs([query], "query"))
        index = torch.arange(len(texts), device=model.device)[None]
        return model(query_ids, query_mask, ids, mask, index).scores.T
    if isinstance(model, ColBERT):
        embeddings, compared = model.embed(ids, mask, "document")
        return (embeddings * compared[..., None]).sum(dim=1) / compared.sum(dim=1, keepdim=True)
    return model.embed(ids, mask, "document")


def difference(first: Tensor, second: Tensor) -> float:
    """Return the distance of two outputs [M], as a share of the first one's length."""
    return float((first - second).norm() / first.norm().clamp(min=1e-30))
