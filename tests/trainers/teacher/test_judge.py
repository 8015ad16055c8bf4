"""Language models that judge, against transformers called by hand on one unpadded pair at a time."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from m3se.trainers.errors import InputError
from m3se.trainers.models.model_info import ModelInfo
from m3se.trainers.teacher.judge import Judge
from m3se.trainers.teacher.pair_scorer import PairScorer
from m3se.trainers.teacher.templates import read_template
from tests.worlds.judges import save_judge, tokenizer
from tests.worlds.tiny import WORDS


DRAW = random.Random(0)
QUERIES = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 6))) for _ in range(12)]
DOCUMENTS = [" ".join(DRAW.choices(WORDS, k=DRAW.randint(1, 40))) for _ in range(12)]
CHAT = (
    "{% for m in messages if m.role == 'system' %}<|im_start|>system\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>user\n<Query>: {{ (messages | selectattr('role', 'eq', 'query') | first).content }}\n"
    "<Document>: {{ (messages | selectattr('role', 'eq', 'document') | first).content }}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def float32(folder, **options) -> Judge:
    return Judge.from_pretrained(str(folder), dtype="float32", **options)


def qwen3_ids(made, query, document):
    """The model card of Qwen3-Reranker."""
    prefix = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    task = "Given a web search query, retrieve relevant passages that answer the query"
    pair = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {document}"
    suffix = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    return [token for text in (prefix, pair, suffix) for token in made.encode(text, add_special_tokens=False)]


def bge_ids(made, query, document):
    """`get_inputs` of bge-reranker-v2-gemma's model card."""
    task = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing "
        "a prediction of either 'Yes' or 'No'."
    )
    texts = (f"A: {query}", "\n", f"B: {document}", "\n", task)
    return [made.bos_token_id] + [token for text in texts for token in made.encode(text, add_special_tokens=False)]


def mxbai_ids(made, query, document):
    """`prepare_inputs` of mxbai_rerank_v2.py."""
    task = (
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:"
    )
    system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    texts = (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n",
        f"query: {query}",
        "\n",
        f"document: {document}",
        "\n",
        task,
        "<|im_end|>\n<|im_start|>assistant\n",
    )
    return [token for text in texts for token in made.encode(text, add_special_tokens=False)]


DECODERS = {
    "Qwen3-Reranker-0.6B": ("qwen3", qwen3_ids, "yes", "no", {}),
    "bge-reranker-v2-gemma": ("gemma", bge_ids, "Yes", None, {"first": "<bos>", "last": "</s>"}),
    "mxbai-rerank-base-v2": ("qwen2", mxbai_ids, "1", "0", {}),
}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_scores_as_its_card_says(name, tmp_path):
    kind, prompt, true, false, special = DECODERS[name]
    folder = save_judge(tmp_path / name, kind, tokenizer(**special))
    model, made = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    expected = []
    with torch.no_grad():
        for query, document in zip(QUERIES, DOCUMENTS, strict=True):
            logits = model(torch.tensor([prompt(made, query, document)])).logits[0, -1]
            right = logits[made.encode(true, add_special_tokens=False)]
            wrong = logits[made.encode(false, add_special_tokens=False)] if false else torch.zeros(1)
            expected.append((right - wrong).item())
    scores = float32(folder).score(QUERIES, DOCUMENTS)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_monot5_scores_by_the_first_step_of_its_decoder(tmp_path):
    folder = save_judge(tmp_path / "monot5-base", "t5", tokenizer(last="</s>"))
    model, made = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    true, false = made.convert_tokens_to_ids("true"), made.convert_tokens_to_ids("false")
    expected = []
    with torch.no_grad():
        for query, document in zip(QUERIES, DOCUMENTS, strict=True):
            inputs = made(f"Query: {query} Document: {document} Relevant:", return_tensors="pt")
            logits = model(**inputs, decoder_input_ids=torch.tensor([[2]])).logits[0, 0]
            expected.append((logits[true] - logits[false]).item())
    np.testing.assert_allclose(float32(folder).score(QUERIES, DOCUMENTS), expected, atol=1e-4)


def test_a_decoder_with_learned_positions_is_read_alike_beside_longer_prompts(tmp_path):
    judge = float32(save_judge(tmp_path, "gpt2"), template="qwen3-reranker")
    alone = [judge.score([query], [text]).item() for query, text in zip(QUERIES, DOCUMENTS, strict=True)]
    np.testing.assert_allclose(judge.score(QUERIES, DOCUMENTS), alone, atol=1e-4)


@pytest.mark.parametrize("prompts", [{}, {"prompts": {"web": "Find what answers"}, "default_prompt_name": "web"}])
def test_a_cross_encoder_with_a_logit_score_is_the_teacher_that_sentence_transformers_has(prompts, tmp_path):
    made = tokenizer(chat_template=CHAT)
    transformer = Transformer(save_judge(tmp_path / "start", "qwen3", made), transformer_task="text-generation")
    answers = LogitScore(made.convert_tokens_to_ids("yes"), made.convert_tokens_to_ids("no"))
    reference = CrossEncoder(
        modules=[transformer, answers], activation_fn=torch.nn.Identity(), device="cpu", **prompts
    )
    reference.save_pretrained(str(tmp_path / "saved"))
    assert ModelInfo.read(tmp_path / "saved").generates
    expected = reference.predict(list(zip(QUERIES, DOCUMENTS, strict=True)), show_progress_bar=False)
    np.testing.assert_allclose(float32(tmp_path / "saved").score(QUERIES, DOCUMENTS), expected, atol=1e-4)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory) -> str:
    return save_judge(tmp_path_factory.mktemp("judge") / "Qwen3-Reranker", "qwen3")


def test_texts_are_cut_and_the_prompt_stays_whole(reranker):
    judge = float32(reranker, query_length=2, document_length=5)
    made = judge.encoder.tokenizer
    cut = []
    for texts, length in ((QUERIES, 2), (DOCUMENTS, 5)):
        encodings = [made(f" {text}", add_special_tokens=False)["input_ids"][:length] for text in texts]
        cut.append([made.decode(ids).strip() for ids in encodings])
    assert cut != [QUERIES, DOCUMENTS]
    np.testing.assert_allclose(judge.score(QUERIES, DOCUMENTS), float32(reranker).score(*cut), atol=1e-4)


def test_a_document_beyond_the_positions_is_cut_to_them(tmp_path):
    folder = save_judge(tmp_path / "Qwen3-Reranker", "qwen3", max_position_embeddings=120)
    judge = float32(folder)
    inputs = judge.encoder(["red tree"], [" ".join(WORDS * 20)])
    assert inputs["input_ids"].shape == (1, 120)
    whole = judge.encoder.tokenizer.decode(inputs["input_ids"][0])
    assert "<Query>: red tree\n<Document>: red blue" in whole
    assert whole.endswith("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_bfloat16_moves_a_score_by_rounding(reranker):
    exact = float32(reranker, template="bge-reranker-v2").score(QUERIES, DOCUMENTS)
    rounded = Judge.from_pretrained(reranker, "bfloat16", template="bge-reranker-v2").score(QUERIES, DOCUMENTS)
    assert not np.array_equal(exact, rounded)
    assert np.corrcoef(exact, rounded)[0, 1] > 0.99
    coarse = torch.tensor(rounded).bfloat16().float().numpy()  # 8 bits: what a logit in bfloat16 would have
    assert (rounded != coarse).all()


def write_template(folder, **fields) -> str:
    (folder / "prompt.json").write_text(json.dumps(fields), encoding="utf-8")
    return str(folder / "prompt.json")


def test_a_template_of_a_file_is_another_teacher(reranker, tmp_path):
    text = "Query: {query} Document: {document} Relevant:"
    (tmp_path / "prompt.yaml").write_text(f'prompt: "{text}"\ntrue: yes\nfalse: no\n', encoding="utf-8")
    judge = float32(reranker, template=str(tmp_path / "prompt.yaml"))
    model = AutoModelForCausalLM.from_pretrained(reranker).eval()
    made = judge.encoder.tokenizer
    ids = made(text.format(query=QUERIES[0], document=DOCUMENTS[0]), return_tensors="pt")["input_ids"]
    logits = model(ids).logits[0, -1]
    expected = logits[made.convert_tokens_to_ids("yes")] - logits[made.convert_tokens_to_ids("no")]
    assert judge.score(QUERIES[:1], DOCUMENTS[:1]).item() == pytest.approx(expected.item(), abs=1e-4)
    same = float32(reranker, template=write_template(tmp_path, prompt=text, true="yes", false="no"))
    assert judge.fingerprint == same.fingerprint != float32(reranker).fingerprint


def test_the_template_of_the_page_can_be_read(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "teachers.md").read_text(encoding="utf-8")
    (tmp_path / "prompt.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    template = read_template(str(tmp_path / "prompt.yaml"))
    assert (template.true, template.false) == ("yes", "no")
    assert template.prompt[0].startswith("Query: {query}\nDocument: {document}\n")


PROMPT = "Query: {query} Document: {document} Relevant:"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"prompt": PROMPT}, "lacks true"),
        ({"true": "yes", "prompt": "Query: {query}"}, "expected {document} once, got it 0 times"),
        ({"true": "yes", "prompt": PROMPT, "fals": "no"}, "expected prompt, true, false, special_tokens, got fals"),
        ({"true": "giraffe", "prompt": PROMPT}, "tokens of the answer 'giraffe'"),
        ({"true": "yes", "false": "yes", "prompt": PROMPT}, "are the same token"),
        ({"true": "", "prompt": PROMPT}, "true: expected a word"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(reranker, tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        float32(reranker, template=write_template(tmp_path, **fields))


def test_an_unknown_prompt_names_the_templates_there_are(reranker, tmp_path):
    with pytest.raises(InputError, match="template mine: no such file, and none of qwen3-reranker, bge-reranker-v2"):
        float32(reranker, template="mine")
    with pytest.raises(InputError, match="no prompt is known for it: choose a template"):
        float32(save_judge(tmp_path / "llm", "qwen3"))


def test_a_prompt_that_leaves_no_room_is_refused(tmp_path):
    folder = save_judge(tmp_path / "Qwen3-Reranker", "qwen3", max_position_embeddings=64)
    with pytest.raises(InputError, match="exceeds the 64 positions of the teacher"):
        float32(folder)


def test_a_language_model_is_no_classifier(reranker):
    with pytest.raises(InputError, match="expected a trained cross-encoder, not a bare encoder"):
        PairScorer.from_pretrained(reranker)
