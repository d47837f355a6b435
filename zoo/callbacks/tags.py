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
    "norms/gradient_<turn>": "of networks that take turns (discriminator, generator): that of each, in its own turn",
    "norms/parameter": "length of all trainable parameters together",
    "norms/zero_share": "share of weights (matrices and kernels) that are exactly 0; with regularizer.l1 alone",
    "norms/update": "length of the step just taken; about a thousandth of norms/parameter is healthy",
    "gradients/<layer>": "length of the gradient of a layer's weight, for six layers at most, numbered from the input",
    "gradients/first_over_last": "that of the first layer over that of the last; far below 1 it vanishes on its way "
    "back, far above 1 it explodes",
    "activations/dead_share": "share of rectifier units that pass no gradient for any of 256 validation samples",
    "activations/saturated_share": "share of sigmoid and tanh answers with less than a twentieth of the steepest slope",
    "activations/alike_share": "share of units that answer as another unit of their layer does",
    "through_time/reach": "recurrent networks: steps back from the last one until the gradient of its state by the "
    "input is below a hundredth",
    "speed/step_ms": "milliseconds an iteration took, mean since the point before, validation left out",
    "speed/samples_per_second": "training samples a second, over all processes",
    "finetune/<block>": "learning rate of a block of layers, numbered from the input; 0 while it does not learn",
    "samples/finetune": "the blocks of a fine-tuned network: what learns, from which epoch on, how fast",
    "samples/config": "the resolved configuration of the run",
    "samples/about_these_charts": "this list",
    "samples/layers": "the layers; L counts from 0 at the input, N[i][L] is node i (from 1) of layer L",
    "samples/augmented": "training images as they are, and as each of the first epochs sees them",
    "samples/gradient_flow": "length of each layer's gradient from the input to the output, a line for the first "
    "update and for the last of epochs 1, 2, 4, 8, ...",
    "samples/activity": "each layer's answers on 256 validation samples: their size, and the shares that are dead, "
    "saturated or alike",
    "samples/kernels": "what each unit of the first layer looks for: three channels in their colours, else red for "
    "positive, white for 0, blue for negative weights",
    "samples/feature_maps": "one validation image, and what each convolution makes of it; red: a map without contrast",
    "samples/gradient_through_time": "recurrent networks: length of the gradient of the last state by the input of "
    "each step before it, a line for each of epochs 1, 2, 4, 8, ...",
    "samples/gates": "LSTM and GRU: what the last layer's gates and states do while it reads a validation sequence",
    "samples/forecasts": "a few windows of the series: what was known, what came, and what was predicted",
    "samples/answers_by_step": "what is true at each step of a sequence, above how probable the model finds it",
    "samples/text": "language models: a piece of the validation text, and how the model goes on with it",
    "samples/translations": "sequences from sequences: sources, references and what the model writes, and how BLEU and "
    "chrF were computed",
    "samples/attention_1": "what the model looks at in the source (across, or in the image) while it writes the tokens "
    "of the first translation (down): the mean over heads and layers",
    "samples/attention_2": "the same of the second translation",
    "samples/attention_heads": "the first translation again: each head of the last layer",
    "samples/hidden_tokens": "BERT: a text with hidden tokens, what stood there, and what the model thinks",
    "samples/episode": "acting: one episode without exploring, what was seen, done and expected at each step",
    "samples/frames": "the same episode, drawn at some of its steps",
    "samples/neighbours": "word vectors: a few frequent words and those whose vectors are nearest to theirs",
    "samples/confusion_matrix": "true class by row, predicted class by column, on validation and at last on test",
    "samples/predictions": "inputs with what the model says; green is right, red is wrong",
    "samples/misclassified": "inputs that the model gets wrong",
    "samples/gradcam": "the first inputs of samples/predictions; yellow is what speaks for the predicted class",
    "samples/saliency": "the same for a network without feature maps; yellow is where the answer is sensitive",
    "samples/predicted_and_true": "regression: predicted against true value; a perfect model lies on the line",
}


def page() -> str:
    """The list as a table in markdown."""
    return "\n".join(
        ["| chart | what it shows |", "|---|---|", *(f"| `{tag}` | {text} |" for tag, text in TAGS.items())]
    )
