import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from m3se.hub_cards import plots


CURVES = {
    "CA": {"step": [100, 200], "train": [0.5, 0.8], "dev": [0.4, 0.45]},
    "DE": {"step": [100, 200], "train": [0.4, 0.7], "dev": [0.3, 0.31]},
}
SIZES = {
    "CA": {"size": [384], "train": [0.9], "dev": [0.5]},
    "DE": {"size": [64, 8], "train": [0.8, 0.6], "dev": [0.4, 0.3]},
}
SCORES = {"CA": ([3.0, 4.0, 5.0], [0.0, 1.0, 1.0, 0.5]), "DE": ([70.0, 80.0], [60.0, 75.0])}
FIGURES = {
    "learning_curves": lambda: plots.learning_curves(CURVES, "MRR@10", "title"),
    "embedding_sizes": lambda: plots.embedding_sizes(SIZES, "MRR@10", "title"),
    "score_distributions": lambda: plots.score_distributions(SCORES, "title"),
    "stage_distributions": lambda: plots.stage_distributions({"step 0": {"DE": SCORES["DE"]}, "end": SCORES}, "title"),
    "margin_distributions": lambda: plots.margin_distributions({"CA": [0.1, 0.5], "DE": [-0.1, 0.2]}, "title"),
    "calibrations": lambda: plots.calibrations(
        "CA", {"DE": ([1.0, 2.0], [3.0, 5.0])}, {"DE": np.array([0.5, 0.7])}, "title"
    ),
    "comparison": lambda: plots.comparison(
        {"CA": (0.5, (0.4, 0.6)), "DE": (0.3, (0.2, 0.4)), "M3SE": (0.4, (0.35, 0.45))},
        {"M3SE": (0.5, (0.3, 0.6), 0.65)},
        "MRR@10",
        "gap closed",
        "title",
    ),
    "capacity": lambda: plots.capacity([2, 4], {"scores": [0.5, 0.1]}, [9.0, 3.0, 1.0], "title"),
    "gradient_ratios": lambda: plots.gradient_ratios([0.1, 1.0, 10.0], {"a": [0.2, 0.9, 1.0]}, "title"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_picture_renders_with_its_title_at_card_width(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    assert buffer.getvalue().startswith(b"\x89PNG")
    assert figure.get_suptitle() == "title"
    assert figure.get_figwidth() == 8
    for axes in figure.axes:
        letters = [text.get_fontsize() for text in (axes.xaxis.label, axes.yaxis.label) if text.get_text()]
        assert all(size >= 9 for size in letters)


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.lines}


def test_learning_curves_draw_the_numbers_given():
    drawn = lines(FIGURES["learning_curves"]().axes[0])
    assert drawn["CA, dev"] == [[100, 0.4], [200, 0.45]]
    assert drawn["DE, train"] == [[100, 0.4], [200, 0.7]]


def test_embedding_sizes_are_in_order_and_a_single_one_is_a_line_across():
    train, dev = FIGURES["embedding_sizes"]().axes
    assert lines(train)["DE"] == [[8, 0.6], [64, 0.8]]
    assert lines(dev)["DE"] == [[8, 0.3], [64, 0.4]]
    assert [y for _, y in lines(dev)["CA"]] == [0.5, 0.5]


def areas(axes):
    """Area under each histogram outline, by label."""
    result = {}
    for patch in axes.patches:
        x, y = patch.get_xy().T
        result[patch.get_label()] = abs(np.sum((x[:-1] + x[1:]) * np.diff(y)) / 2)
    return result


def test_densities_have_area_1_each_on_the_same_bins():
    for axes in FIGURES["score_distributions"]().axes:
        assert areas(axes) == pytest.approx({"negative": 1.0, "positive": 1.0})


@pytest.mark.parametrize(("positives", "bins"), [(10, 15), (400, 40), (5000, 60)])
def test_a_small_sample_is_drawn_in_fewer_bins(positives, bins):
    edges = plots.common_bins([np.linspace(0, 1, positives), np.linspace(-1, 3, 6000), []])
    assert (len(edges) - 1, edges[0], edges[-1]) == (bins, -1, 3)


def test_panels_share_their_scale_when_asked():
    one, other = plots.score_distributions(SCORES, "t", same_scale=True).axes
    assert one.get_xlim() == other.get_xlim()
    one, other = plots.score_distributions(SCORES, "t").axes
    assert one.get_xlim() != other.get_xlim()


def test_stages_are_rows_and_models_columns():
    figure = FIGURES["stage_distributions"]()
    assert [axes.get_title() for axes in figure.axes] == ["", "DE, step 0", "CA, end", "DE, end"]


def test_sizes_are_marked_as_the_numbers_they_are():
    axes = plots.capacity([2, 4, 512, 600, 768], {"scores": [0.5] * 5}, [3.0, 1.0], "t").axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["2", "4", "512", "768"]


def test_colours_and_line_styles_tell_models_apart():
    axes = plots.gradient_ratios([1.0, 2.0], {name: [1.0, 1.0] for name in "abcd"}, "t").axes[0]
    styles = [(line.get_color(), line.get_linestyle()) for line in axes.lines[:4]]
    assert len({colour for colour, _ in styles}) == len({style for _, style in styles}) == 4


def test_a_split_without_positives_still_draws():
    (axes,) = plots.score_distributions({"CA": ([], [1.0, 2.0])}, "t").axes
    assert list(areas(axes)) == ["negative"]


def test_a_comparison_has_the_rows_from_the_top_with_their_intervals_and_the_papers_shares():
    values, shares = FIGURES["comparison"]().axes
    assert [text.get_text() for text in values.get_yticklabels()] == ["CA", "DE", "M3SE"]
    assert values.yaxis_inverted()
    assert [line.get_xydata().tolist() for line in values.lines] == [[[0.5, 0]], [[0.3, 1]], [[0.4, 2]]]
    bars = [bar.get_segments()[0].tolist() for bar in values.collections]
    assert bars == [[[0.4, 0], [0.6, 0]], [[0.2, 1], [0.4, 1]], [[0.35, 2], [0.45, 2]]]
    assert shares.lines[0].get_xydata().tolist() == [[0.5, 2]]
    assert shares.collections[-1].get_offsets().tolist() == [[0.65, 2]]
    assert [text.get_text() for text in shares.get_legend().get_texts()] == ["ours", "the paper's"]


def test_a_comparison_without_shares_of_the_paper_does_not_speak_of_them():
    values = {"CA": (0.5, (0.4, 0.6)), "DE": (0.4, (0.3, 0.5))}
    shares = plots.comparison(values, {"DE": (0.5, None, None)}, "MRR@10", "gap closed", "title").axes[1]
    assert shares.lines[0].get_xydata().tolist() == [[0.5, 1]]
    assert len(shares.collections) == 0 and shares.get_legend() is None


def test_a_long_name_of_the_share_stays_within_the_picture():
    share = "gap closed, from DE one-hot, 500 others to CA"
    row = "DE softmax CE, 500 of the teacher's"  # which leaves the panels less room
    figure = plots.comparison({"CA": (0.5, None), row: (0.4, None)}, {row: (0.5, None, None)}, "m", share, "title")
    figure.draw_without_rendering()
    assert figure.axes[1].xaxis.label.get_window_extent().x1 <= figure.bbox.x1
