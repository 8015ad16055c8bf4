"""Prompts in which language models read a query and a document, and the answers that they are scored by.

A template is built in, written in a file (JSON or YAML), or read from a model's own folder:

    prompt: "Query: {query} Document: {document} Relevant:"    # or a list of pieces
    true: "true"
    false: "false"    # left out: the score is the logit of `true` alone
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from m3se.modeling.repository import read_json
from m3se.trainers.errors import InputError, first_line, shorten
from m3se.trainers.models.model_info import ModelInfo


PLACEHOLDERS = ("{query}", "{document}")
FIELDS = ("prompt", "true", "false", "special_tokens")
NO_ANSWER = ("", "null", "~")
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Template:
    """A prompt of a language model that judges.

    Attributes:
        prompt: pieces that are tokenised each by itself and put one after the other. `{query}` and `{document}` stand
            in them once each.
        true, false: the answers: words, or the token ids that a model's own folder names. Without `false` the score is
            the logit of `true` alone.
        special_tokens: put the tokenizer's own first tokens before the prompt (after it too for an encoder).
    """

    prompt: tuple[str, ...]
    true: str | int
    false: str | int | None = None
    special_tokens: bool = True

    def answers(self) -> list[str | int]:
        """List the answers whose logits are read, `true` last."""
        return [self.true] if self.false is None else [self.false, self.true]


QWEN3_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
QWEN2_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
MXBAI_TASK = (
    "You are a search relevance expert who evaluates how well documents match search queries. For each query-document "
    "pair, carefully analyze the semantic relationship between them, then provide your binary relevance judgment "
    "(0 for not relevant, 1 for relevant).\nRelevance:"
)
BGE_TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
# By a part of the model's name. Each is tokenised in the pieces of its source.
BUILT_IN = {
    # The model card of Qwen/Qwen3-Reranker-0.6B, "Transformers Usage".
    "qwen3-reranker": Template(
        (
            f"<|im_start|>system\n{QWEN3_SYSTEM}<|im_end|>\n<|im_start|>user\n",
            "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
            "<Query>: {query}\n<Document>: {document}",
            "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ),
        true="yes",
        false="no",
        special_tokens=False,
    ),
    # FlagEmbedding, research/llm_reranker, "LLM-based reranker" (also of bge-reranker-v2-minicpm-layerwise).
    "bge-reranker-v2": Template(("A: {query}", "\n", "B: {document}", "\n", BGE_TASK), true="Yes"),
    # mixedbread-ai/mxbai-rerank, mxbai_rerank/mxbai_rerank_v2.py.
    "mxbai-rerank-v2": Template(
        (
            f"<|im_start|>system\n{QWEN2_SYSTEM}<|im_end|>\n<|im_start|>user\n",
            "query: {query}",
            "\n",
            "document: {document}",
            "\n",
            MXBAI_TASK,
            "<|im_end|>\n<|im_start|>assistant\n",
        ),
        true="1",
        false="0",
        special_tokens=False,
    ),
    # castorini/pygaggle, pygaggle/rerank/transformer.py and pygaggle/model/tokenize.py (Nogueira et al., 2020).
    "monot5": Template(("Query: {query} Document: {document} Relevant:",), true="true", false="false"),
}
NAMES = {
    "qwen3-reranker": r"qwen3-reranker",
    "bge-reranker-v2": r"bge-reranker-v2-(gemma|minicpm)",
    "mxbai-rerank-v2": r"mxbai-rerank-\w+-v2",
    "monot5": r"monot5",
}


def find_template(info: ModelInfo, tokenizer: PreTrainedTokenizerBase, chosen: str | None = None) -> Template:
    """Return the template of a language model: the chosen one, its folder's own, or the one built in for its name.

    Args:
        info: the model.
        tokenizer: renders the chat template of a folder of sentence-transformers.
        chosen: a name of `BUILT_IN`, or a file.

    Raises:
        InputError: an unknown name, a file that holds no template, a folder that cannot be read as one, or a model
            that none is known for.
    """
    if chosen is not None:
        return read_template(chosen)
    if info.kind == "causal":
        return read_logit_score(info, tokenizer)
    if name := built_in_name(info):
        return BUILT_IN[name]
    raise InputError(
        f"{info.name} is a language model, and no prompt is known for it: choose a template, one of "
        f"{', '.join(BUILT_IN)} or a file with prompt, true and false"
    )


def judges(info: ModelInfo, chosen: str | None = None) -> bool:
    """Return true for a model that is read by a prompt: its own, one built in for its name, or a chosen one."""
    return info.kind == "causal" or (info.generates and (chosen or built_in_name(info)) is not None)


def built_in_name(info: ModelInfo) -> str | None:
    """Find the built-in template of a model by its name; None if there is none."""
    names = f"{Path(info.name).name} {info.config.get('_name_or_path', '')}".lower()
    return next((name for name, pattern in NAMES.items() if re.search(pattern, names)), None)


def read_template(name: str) -> Template:
    """Return a built-in template by its name, or read one from a JSON or YAML file.

    Raises:
        InputError: neither, a field that is missing, unknown or of another type, or a prompt without its texts.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"template {name}: no such file, and none of {', '.join(BUILT_IN)}")
    try:
        # JSON is YAML; of this loader `yes` and `1` are words, as answers should be
        fields = yaml.BaseLoader(path.read_text(encoding="utf-8")).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"template {name}: neither JSON nor YAML: {' '.join(str(error).split())}") from None
    if not isinstance(fields, dict):
        raise InputError(
            f"template {name}: expected a mapping with prompt, true and false, got {shorten(str(fields))}"
        )
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise InputError(f"template {name}: expected {', '.join(FIELDS)}, got {', '.join(unknown)}")
    if missing := sorted({"prompt", "true"} - fields.keys()):
        raise InputError(f"template {name}: lacks {' and '.join(missing)}")
    return checked_template(fields, name)


def checked_template(fields: dict, name: str) -> Template:
    """Make a template of its fields; raises InputError for one of another type, or a prompt without its texts."""
    pieces = fields["prompt"] if isinstance(fields["prompt"], list) else [fields["prompt"]]
    if not all(isinstance(piece, str) for piece in pieces):
        raise InputError(f"template {name}: prompt: expected a text, or a list of texts")
    for placeholder in PLACEHOLDERS:
        if (count := "".join(pieces).count(placeholder)) != 1:
            raise InputError(f"template {name}: prompt: expected {placeholder} once, got it {count} times")
    false = None if fields.get("false") in NO_ANSWER else fields.get("false")
    for answer, word in (("true", fields["true"]), ("false", false)):
        if word == "" or not isinstance(word, str | None):
            raise InputError(f"template {name}: {answer}: expected a word, got {word!r}")
    special = fields.get("special_tokens", "true")
    if special not in TRUTHS:
        raise InputError(f"template {name}: special_tokens: expected true or false, got {special!r}")
    return Template(tuple(pieces), fields["true"], false, TRUTHS[special])


def read_logit_score(info: ModelInfo, tokenizer: PreTrainedTokenizerBase) -> Template:
    """Read the template of a CrossEncoder of sentence-transformers that ends in a LogitScore module.

    Its prompt is the model's chat template with roles `query` and `document`, and its default prompt as `system`; its
    answers are the module's token ids.

    Raises:
        InputError: it ends in another module, or its chat template does not hold both texts.
    """
    module = info.modules[-1] if info.modules else {"type": "no module"}
    if not module["type"].endswith(".LogitScore"):
        raise InputError(f"{info.name} makes its score by {module['type']}; expected a classifier or a LogitScore")
    answers = read_json(info.name, f"{module['path']}/config.json") or {}
    if not isinstance(answers.get("true_token_id"), int):
        raise InputError(f"{info.name}: {module['path']}/config.json lacks true_token_id")
    settings = read_json(info.name, "config_sentence_transformers.json") or {}
    system = (settings.get("prompts") or {}).get(settings.get("default_prompt_name"))
    transformer = read_json(info.name, "sentence_bert_config.json") or {}
    options = (transformer.get("processing_kwargs") or {}).get("chat_template") or {}
    options = {key: value for key, value in options.items() if key != "restore_suffix"}
    prompt = render_chat(info.name, tokenizer, system, options)
    return Template((prompt,), answers["true_token_id"], answers.get("false_token_id"), special_tokens=False)


def render_chat(name: str, tokenizer: PreTrainedTokenizerBase, system: str | None, options: dict) -> str:
    """Render a chat template with the placeholders in place of the texts.

    Args:
        name: what a message calls the model.
        tokenizer: has the chat template.
        system: text of a first message with the role `system`.
        options: keywords of the template.

    Raises:
        InputError: there is no chat template, or what it makes does not hold both texts once each.
    """
    if not tokenizer.chat_template:
        raise InputError(f"{name} has no chat template: give it a template")
    for content in (str, lambda text: [{"type": "text", "text": text}]):
        messages = pair_messages(system, content)
        try:
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except (TemplateError, TypeError, ValueError) as error:
            reason = first_line(error)
            continue
        if all(prompt.count(placeholder) == 1 for placeholder in PLACEHOLDERS) and "{'type'" not in prompt:
            return prompt
        reason = "it does not hold the texts of the roles query and document once each"
    raise InputError(f"{name}: its chat template cannot be used: {reason}; give it a template")


def pair_messages(system: str | None, content: Callable[[str], object]) -> list[dict]:
    """Make the messages of a pair; `content` wraps a text as the chat template expects it."""
    roles = dict(zip(("query", "document"), PLACEHOLDERS, strict=True))
    texts = ({"system": system} if system else {}) | roles
    return [{"role": role, "content": content(text)} for role, text in texts.items()]
