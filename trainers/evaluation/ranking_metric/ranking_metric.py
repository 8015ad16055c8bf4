"""Ranking metrics for the `evaluate` library, by `m3se.trainers.evaluation.run_metrics`.

evaluate.load("trainers/evaluation/ranking_metric") works offline; this package must be installed.
"""

# One import per line: the library's scanner takes `import a, b` for a package called "a,".
import datasets
import evaluate

from m3se.trainers.evaluation.run_metrics import MEASURES, evaluate_run


CITATION = """\
@article{jarvelin2002cumulated,
  title={Cumulated gain-based evaluation of IR techniques},
  author={J{\\"a}rvelin, Kalervo and Kek{\\"a}l{\\"a}inen, Jaana},
  journal={ACM Transactions on Information Systems},
  year={2002}
}
"""
DESCRIPTION = """\
MRR@K, nDCG@K (linear gain, as trec_eval) and Recall@K of ranked documents. Ties are broken against the model, and
counted.
"""
INPUTS = """\
Args:
    predictions: one {"document_ids": [...], "scores": [...]} per query.
    references: for the same query, all that is judged: {"document_ids": [...], "grades": [...]}, 0 = not relevant.
    measures: names such as "MRR@10", "nDCG@10", "Recall@100".
    relevance_level: the grade from which MRR and Recall count a document.
Returns:
    The mean of each measure over the queries, `queries`, and `ties`: documents that shared their score.
"""


class RankingMetric(evaluate.Metric):
    """The metric as the library wants it: one class in a module of this name."""

    def _info(self):
        ids = datasets.List(datasets.Value("string"))
        numbers = datasets.List(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": {"document_ids": ids, "scores": numbers},
                    "references": {"document_ids": ids, "grades": numbers},
                }
            ),
        )

    def _compute(self, predictions, references, measures=MEASURES, relevance_level=1):
        run, qrels = {}, {}
        for number, (ranked, judged) in enumerate(zip(predictions, references, strict=True)):
            run[str(number)] = dict(zip(ranked["document_ids"], ranked["scores"], strict=True))
            qrels[str(number)] = dict(zip(judged["document_ids"], judged["grades"], strict=True))
        result = evaluate_run(run, qrels, measures=measures, relevance_level=relevance_level)
        return {**result.values, "queries": result.queries, "ties": result.ties}
