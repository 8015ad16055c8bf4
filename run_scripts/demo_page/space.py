"""The page of a Space: a published model beside BM25, on texts that the visitor brings."""

from functools import partial
from pathlib import Path

from m3se.run_scripts.cli.app import run_explained
from m3se.run_scripts.demo_page.comparing import Comparison, Judged, System
from m3se.run_scripts.demo_page.opening import BM25_NAME, search_words
from m3se.run_scripts.demo_page.rankings import Answer
from m3se.run_scripts.demo_page.serve import check_gradio, serve
from m3se.trainers.data import BM25Index, DocumentTable
from m3se.trainers.data.bm25 import word_matcher
from m3se.trainers.errors import InputError
from m3se.trainers.retrieval.loading import load_scorer
from m3se.trainers.retrieval.scorers import ColBERTScorer, Scorer
from m3se.trainers.retrieval.tokens.meetings import token_meetings


TOP = 10
MOST_TEXTS, LONGEST_TEXT = 200, 2_000  # of a page that anybody may open
EXAMPLE = """Adult giraffes stand 4.3 to 5.7 metres tall, males taller than females.
The common ostrich lays the largest eggs of any living bird.
A giraffe's neck can be two metres long and has seven vertebrae, as many as a human's.
Elephants are the largest living land animals."""


def start(model: str) -> None:
    """Serve the page of a model, a folder or Hub id, until the process is stopped; end as the scripts do."""
    run_explained(partial(serve_model, model))


def serve_model(model: str) -> None:
    """Serve the page of a model until the process is stopped.

    Args:
        model: folder or Hub id.

    Raises:
        InputError: the model cannot be loaded.
    """
    check_gradio()
    scorer = load_scorer(model)
    import gradio as gr

    from m3se.run_scripts.demo_page.page import Answers, build_search

    name = Path(model).name
    explained = [name] if isinstance(scorer, ColBERTScorer) else []
    answers = Answers(partial(answer_from_texts, scorer, name), [BM25_NAME, name], explained)
    with gr.Blocks(title=name, analytics_enabled=False) as page:
        texts = gr.Textbox(EXAMPLE, label="Texts to rank, one a line", lines=5, max_lines=15, elem_id="texts")
        build_search(answers, more=[texts])
    serve(page, None, None)


def answer_from_texts(scorer: Scorer, name: str, query: str, lines: str) -> Answer:
    """Rank the lines of a text for a query by BM25 and by a model.

    Args:
        scorer: the model.
        name: of the model.
        query: its text.
        lines: the texts to rank; empty lines are left out.

    Raises:
        InputError: there are no texts, or too many, or one is too long, or the query is empty.
    """
    texts = list(filter(None, map(str.strip, lines.splitlines())))
    if not 0 < len(texts) <= MOST_TEXTS:
        raise InputError(f"texts: expected 1 to {MOST_TEXTS}, got {len(texts)}")
    if max(map(len, [query, *texts])) > LONGEST_TEXT:
        raise InputError(f"texts: expected at most {LONGEST_TEXT:,} characters each")
    documents = DocumentTable.from_texts([f"line {number}" for number in range(1, len(texts) + 1)], texts)
    systems = [System(BM25_NAME, partial(search_words, BM25Index.build(documents)))]
    meet = partial(token_meetings, scorer) if isinstance(scorer, ColBERTScorer) else None
    systems.append(System(name, partial(rank_texts, scorer, documents), meet))
    unjudged = Judged({}, {})
    return Comparison(documents, systems, BM25_NAME, [], None, unjudged, word_matcher(), TOP, TOP).answer(query)


def rank_texts(scorer: Scorer, documents: DocumentTable, query: str, depth: int) -> dict[str, float]:
    """Rank all documents of a small table."""
    ids = list(documents.ids)
    ranked = scorer.rank(query, documents.texts(ids), depth)
    return {ids[place]: score for place, score, _ in ranked}
