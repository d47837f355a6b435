import pytest
import torch

from zoo.pictures.matrices import confusion_matrix


def counts(size: int) -> torch.Tensor:
    return torch.randint(30, (size, size), generator=torch.Generator().manual_seed(0)) + 200 * torch.eye(size).long()


@pytest.mark.parametrize("size", [2, 10, 20])
def test_a_confusion_matrix_has_every_count_and_names_both_axes(size, is_no_blank, written):
    matrix = counts(size)
    figure = confusion_matrix(matrix, [f"class {k}" for k in range(size)])
    axis = figure.axes[0]
    assert is_no_blank(figure)
    assert written(axis) == [str(n) for n in matrix.flatten().tolist() if n > 0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("predicted", "true")  # a row is a true class
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"class {k}" for k in range(size)]
    accuracy = matrix.diagonal().sum() / matrix.sum()
    assert axis.get_title() == f"{matrix.sum()} samples, accuracy {accuracy:.3f}"


def test_shades_of_a_confusion_matrix_are_shares_of_the_true_class():
    figure = confusion_matrix(torch.tensor([[1, 3], [0, 0]]), ["no", "yes"])
    assert figure.axes[0].images[0].get_array().tolist() == [[0.25, 0.75], [0.0, 0.0]]  # an absent class is blank


def test_a_hundred_classes_are_drawn_without_numbers_and_with_fewer_names(is_no_blank, written):
    figure = confusion_matrix(counts(100), [f"name of class {k}" for k in range(100)])
    assert is_no_blank(figure)
    assert written(figure.axes[0]) == []
    assert 20 <= len(figure.axes[0].get_xticks()) <= 30


@pytest.mark.parametrize("name", ["$^ a", "a_b^c", "100% {", "\\frac", "größe"])
def test_names_of_classes_are_drawn_letter_by_letter(name, drawn):
    drawn(confusion_matrix(counts(2), [f"{name}$", f"${name}"]))


def test_drawing_leaves_nothing_in_the_global_registry():
    from matplotlib import pyplot

    confusion_matrix(counts(3), "abc")
    assert pyplot.get_fignums() == []
