"""The distance to a teacher's embeddings: values by hand, and laws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity

from m3se import InputError
from m3se.trainers.losses import embedding_matching
from m3se.trainers.matching.projection import drop_projection
from m3se.trainers.matching.text_embeddings import embed_lists
from tests.trainers.distributed_jobs import student_with_projection
from tests.worlds import tiny


def cases(seed: int):
    """Embeddings of 3 queries and 4 documents by both sides in float64, and which are whose."""
    draw = torch.Generator().manual_seed(seed)
    sizes = (3, 3, 4, 4)
    embeddings = [torch.randn(size, 5, generator=draw, dtype=torch.float64) for size in sizes]
    return *embeddings, torch.tensor([[0, 1, 2], [3, 0, -1], [-1, -1, -1]])


def test_values_by_hand():
    queries, teacher_queries = torch.tensor([[3.0, 4.0], [-1.0, 0.0]]), torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    documents, teacher_documents = torch.tensor([[0.0, 2.0], [1.0, 0.0]]), torch.tensor([[0.0, 5.0], [0.0, 1.0]])
    # cosines of the queries: .6 and -1; of the documents 1 and 0
    alone = embedding_matching(queries, teacher_queries)
    assert alone.item() == pytest.approx((0.8 + 4) / 2)
    both = embedding_matching(queries, teacher_queries, documents, teacher_documents, torch.tensor([[0, 1], [1, -1]]))
    assert both.item() == pytest.approx((0.8 + (0 + 2) / 2 + 4 + 2) / 2)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_it_is_twice_one_less_the_cosine_whatever_the_lengths_and_the_axes(seed):
    queries, teacher_queries, documents, teacher_documents, index = cases(seed)
    value = embedding_matching(queries, teacher_queries, documents, teacher_documents, index)
    own = 2 - 2 * cosine_similarity(documents, teacher_documents)
    means = [own[:3].mean(), own[[3, 0]].mean(), torch.zeros((), dtype=torch.float64)]
    expected = (2 - 2 * cosine_similarity(queries, teacher_queries) + torch.stack(means)).mean()
    torch.testing.assert_close(value, expected)
    axes = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    moved = [3 * queries @ axes, 0.2 * teacher_queries @ axes, documents @ axes, 7 * teacher_documents @ axes]
    torch.testing.assert_close(embedding_matching(*moved, index), expected)
    order = torch.tensor([2, 0, 1])
    permuted = embedding_matching(
        queries[order], teacher_queries[order], documents, teacher_documents, index[order].flip(1)
    )
    torch.testing.assert_close(permuted, expected)


def test_the_gradient_is_that_of_the_value_and_nothing_at_equality():
    queries, teacher_queries, documents, teacher_documents, index = cases(1)
    queries.requires_grad_(), documents.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, d: embedding_matching(q, teacher_queries, d, teacher_documents, index), (queries, documents)
    )
    same = embedding_matching(queries, queries.detach() * 2, documents, documents.detach() / 3, index)
    assert same.item() < 1e-30
    assert max(part.abs().max() for part in torch.autograd.grad(same, (queries, documents))) < 1e-15


def test_documents_beyond_the_teachers_and_of_no_list_have_no_part():
    queries, teacher_queries, documents, teacher_documents, index = cases(2)
    value = embedding_matching(queries, teacher_queries, documents, teacher_documents, index.clamp(max=2))
    more = torch.cat([documents, torch.full((2, 5), torch.nan, dtype=torch.float64)])
    more[3] = 100.0
    assert torch.equal(
        embedding_matching(queries, teacher_queries, more, teacher_documents, index.clamp(max=2)), value
    )


def matched(model, lists, folder, width: int, **options):
    embeddings = {"teacher_embeddings": embed_lists(tiny.embedder(width), lists, folder)}
    return tiny.make_trainer(model, lists, folder / "run", embeddings=embeddings, **options)


def test_the_trainer_adds_the_weighted_distance_of_its_own_documents(tmp_path):
    lists = tiny.ranking_lists()
    model = tiny.dual_encoder()
    scorer, batch = tiny.embedder(16), tiny.batch(lists)
    queries = model.embed(batch["query_input_ids"], batch["query_attention_mask"])
    documents = model.embed(batch["document_input_ids"], batch["document_attention_mask"])
    names = list(dict.fromkeys(name for row in lists.rows["document_ids"] for name in row))
    vectors = [torch.from_numpy(scorer.encode(lists.rows["query"][:], "query"))]
    vectors += [torch.from_numpy(scorer.encode(lists.documents.texts(names), "document"))]
    distance = embedding_matching(queries, vectors[0], documents, vectors[1], batch["document_index"]).item()

    def loss(**options):
        trainer = matched(model, lists, tmp_path, 16, in_batch_negatives=True, uniform_negatives=3, **options)
        rows = [lists.rows[number] for number in range(len(lists.rows))]
        return trainer.compute_loss(trainer.model.train(), trainer.data_collator(rows)).item()

    plain = loss()
    assert loss(embedding_weight=0.7) == pytest.approx(plain + 0.7 * distance, rel=1e-5)
    assert loss(embedding_weight=0.7, ranking_weight=0.0) == pytest.approx(0.7 * distance, rel=1e-5)
    assert loss(embedding_weight=0.7, ranking_weight=2.0) == pytest.approx(2 * plain + 0.7 * distance, rel=1e-5)


@pytest.mark.parametrize("build", [tiny.dual_encoder, student_with_projection])
def test_matching_alone_brings_the_student_to_its_teacher(build, tmp_path):
    lists = tiny.ranking_lists(scored=False)
    width = 24 if build is student_with_projection else 16
    options = {"ranking_weight": 0.0, "embedding_weight": 1.0, "learning_rate": 0.02, "logging_steps": 1}
    trainer = matched(build(), lists, tmp_path, width, max_steps=60, **options)
    trainer.train()
    losses = [entry["loss"] for entry in tiny.train_logs(trainer)]
    assert losses[0] > 3  # random vectors: 2 for queries and 2 for documents
    assert losses[-1] < 0.5
    assert {entry["skipped_queries"] for entry in tiny.train_logs(trainer)} == {0}
    drop_projection(trainer.model)
    assert not any("projection" in name for name in trainer.model.state_dict())


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (tiny.colbert, {"embedding_weight": 1.0}, "embedding_weight: expected a dual_encoder"),
        (tiny.dual_encoder, {"ranking_weight": 0.0}, "ranking_weight: 0 leaves nothing to learn"),
        (tiny.dual_encoder, {"embedding_weight": -1.0}, "embedding_weight: expected at least 0, got -1.0"),
    ],
)
def test_what_cannot_be_matched_is_refused(build, options, message, lists, tmp_path):
    with pytest.raises(InputError, match=message):
        matched(build(), lists, tmp_path, 16, **options)


def test_a_weight_without_a_teacher_is_refused(lists, tmp_path):
    with pytest.raises(InputError, match="embedding_weight: needs the embeddings of a teacher"):
        tiny.make_trainer(tiny.dual_encoder(), lists, tmp_path, embedding_weight=1.0)
