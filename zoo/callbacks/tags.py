"""What each chart means. The one list that TensorBoard's text tab, the README and the tests read."""

TAGS = {
    "train/loss": "loss of one training batch; x is the number of finished iterations, counted from 1",
    "train/<metric>": "another value of the same training batch, for instance its accuracy",
    "val/<metric>": "mean over the whole validation part, after an epoch; x is the iteration",
    "test/<metric>": "the same over the test part, once, with the best checkpoint",
    "by_epoch/train/<metric>": "mean over all training batches of an epoch; x is the epoch. The weights move while "
    "it is taken and dropout is on, so in a young run it lags behind validation",
    "by_epoch/val/<metric>": "mean over the validation part; x is the epoch",
    "by_epoch/gap/loss": "validation loss less training loss; growing while training loss falls means overfitting",
    "by_epoch/progress/iteration": "finished iterations at the end of each epoch; x is the epoch",
    "progress/epoch": "finished epochs, with fractions: where an iteration stands",
    "progress/iteration": "finished iterations: one batch each",
    "progress/samples_seen": "training samples used so far, over all processes",
    "optim/lr": "learning rate used in this iteration (of the first parameter group)",
    "norms/gradient": "length of the whole gradient, before any clipping",
    "norms/parameter": "length of all trainable parameters together",
    "norms/update": "length of the step just taken; about a thousandth of norms/parameter is healthy",
    "speed/step_ms": "milliseconds an iteration took, mean since the point before, validation left out",
    "speed/samples_per_second": "training samples a second, over all processes",
    "samples/config": "the resolved configuration of the run",
    "samples/about_these_charts": "this list",
    "samples/layers": "the layers; L counts from 0 at the input, N[i][L] is node i (from 1) of layer L",
    "samples/confusion_matrix": "true class by row, predicted class by column, on validation and at last on test",
    "samples/predictions": "inputs with what the model says; green is right, red is wrong",
    "samples/misclassified": "inputs that the model gets wrong",
    "samples/predicted_and_true": "regression: predicted against true value; a perfect model lies on the line",
}


def page() -> str:
    """The list as a table in markdown."""
    return "\n".join(
        ["| chart | what it shows |", "|---|---|", *(f"| `{tag}` | {text} |" for tag, text in TAGS.items())]
    )
