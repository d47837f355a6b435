"""What each chart means, family by family. The one list that TensorBoard's tabs, its pictures and the tests read."""

import re

SECTIONS = {
    "Losses and metrics": {
        "train/loss": "loss of one training batch; x is the number of finished iterations, counted from 1",
        "train/<metric>": "another value of one training batch, for instance its accuracy; x is the iteration",
        "val/<metric>": "mean over the whole validation part, after an epoch; x is the iteration",
        "test/<metric>": "mean over the whole test part, once, with the best checkpoint; x is the iteration",
        "by_epoch/train/<metric>": "mean over all training batches of an epoch; x is the epoch. The weights move "
        "while it is taken and dropout is on, so in a young run it lags behind validation",
        "by_epoch/val/<metric>": "mean over the validation part; x is the epoch",
        "by_epoch/gap/loss": "validation loss less training loss; growing while training loss falls means overfitting",
    },
    "Where the run stands": {
        "by_epoch/progress/iteration": "finished iterations at the end of each epoch; x is the epoch",
        "progress/epoch": "finished epochs, with fractions: where an iteration stands",
        "progress/iteration": "finished iterations: one batch each",
        "progress/samples_seen": "training samples used so far, over all processes",
        "speed/step_ms": "milliseconds an iteration took, mean since the point before, validation left out",
        "speed/samples_per_second": "training samples a second, over all processes",
        "samples/config": "the resolved configuration of the run",
        "samples/about_these_charts": "this list",
        "samples/layers": "the layers in the order of their use, with the size of what they make of one sample; "
        "L counts from 0 at the input, N[i][L] is node i (from 1) of layer L",
    },
    "How it learns": {
        "optim/lr": "learning rate used in this iteration (of the first parameter group)",
        "norms/gradient": "length of the whole gradient, before any clipping",
        "norms/gradient_<turn>": "of networks that take turns (discriminator, generator): length of the gradient of "
        "each, in its own turn; of one that has none in this iteration, in its newest",
        "norms/clipped_share": "with trainer.gradient_clip_val: of the gradient that is clipped, by norm all of it (1) "
        "or nothing (0), by value the share of its numbers; smoothed, the share of steps that are clipped",
        "norms/parameter": "length of all trainable parameters together",
        "norms/zero_share": "share of weights (matrices and kernels) that are exactly 0; with regularizer.l1 alone",
        "norms/update": "length of the step just taken",
        "norms/update_over_parameter": "length of a step over that of all parameters; about a thousandth is healthy",
        "gradients/<layer>": "length of the gradient of a layer's weight, for six layers at most, numbered from the "
        "input",
        "gradients/first_over_last": "length of the first layer's gradient over that of the last; far below 1 it "
        "vanishes on its way back, far above 1 it explodes (of one network, not of two that take turns)",
        "samples/gradient_flow": "length of each layer's gradient from the input to the output, a line for the first "
        "update and for the last of epochs 1, 2, 4, 8, ...",
        "weights/<layer>": "how the weights of a layer are spread, for six layers at most, before training and after "
        "epochs 1, 2, 4, 8, ...",
        "weight_gradients/<layer>": "how the gradients of a layer's weights are spread, in the last batch of epochs 1, "
        "2, 4, 8, ..., before clipping",
        "activations/dead_share": "share of rectifier units that pass no gradient for any of 256 validation samples",
        "activations/saturated_share": "share of sigmoid and tanh answers with less than a twentieth of the steepest "
        "slope",
        "activations/alike_share": "share of units that answer as another unit of their layer does",
        "samples/activity": "each layer's answers on 256 validation samples: their size (root mean square), and the "
        "shares of units that are dead (pass no gradient), saturated (hardly any) or alike (answer as another does)",
        "probe/N[<i>][<L>]": "with callbacks.probe.layer: how node i of layer L (see samples/layers) answers 256 "
        "validation samples, behind its activation: a histogram before training and after each epoch",
        "finetune/<block>": "learning rate of a block of layers, numbered from the input; 0 while it does not learn",
        "samples/finetune": "the blocks of a fine-tuned network: what learns, from which epoch on, how fast",
    },
    "Images and classes": {
        "samples/augmented": "training images as they are, and as each of the first epochs sees them",
        "samples/predictions": "inputs with what the model says; green is right, red is wrong; of a text "
        "also how sure it is, and in bold what would have been right",
        "samples/misclassified": "inputs that the model gets wrong",
        "samples/confusion_matrix": "true class by row, predicted class by column: how many samples, and as colour "
        "their share of the row; of validation and at last of test",
        "precision_recall/<class>": "of the whole part: precision against recall, where a class is said from a "
        "probability on; up to 20 classes, each against all others",
        "samples/gradcam": "the first inputs of samples/predictions; red, and most of all yellow, is what speaks for "
        "the predicted class",
        "samples/saliency": "for a network without feature maps, the first inputs of samples/predictions; red, and "
        "most of all yellow, is where the answer is sensitive",
        "samples/masks": "segmentation: images, the true class of each pixel, what the model says, and where it is "
        "wrong",
        "samples/boxes": "detection: images with the true boxes, and below with what the model finds and how sure it "
        "is",
        "samples/domains": "domain adaptation: where images of the two domains lie in the features of the network",
        "samples/kernels": "what each unit of the first layer looks for (the first 64 of them): three channels in "
        "their colours, else red for positive, white for 0, blue for negative weights",
        "samples/feature_maps": "one validation image, and what each convolution makes of it; red: a map without "
        "contrast",
        "samples/predicted_and_true": "regression: predicted against true value; a perfect model lies on the line",
    },
    "Sequences and texts": {
        "through_time/reach": "recurrent networks: steps back from the last one until the gradient of its state by "
        "the input is below a hundredth",
        "samples/gradient_through_time": "recurrent networks: length of the gradient of the last state by the input "
        "of each step before it, a line for each of epochs 1, 2, 4, 8, ...",
        "samples/gates": "LSTM and GRU: what the last layer's gates and states do while it reads a validation sequence",
        "samples/forecasts": "a few windows of the series: what was known, what came, and what was predicted",
        "samples/answers_by_step": "what is true at each step of a sequence, above how probable the model finds it",
        "samples/text": "language models: a piece of the validation text, and how the model goes on with it",
        "samples/translations": "sequences from sequences: sources, references and what the model writes, and how "
        "BLEU and chrF were computed",
        "samples/attention_1": "what the model looks at in the source (across, or in the image) while it writes the "
        "tokens of the first translation (down): the mean over heads and layers",
        "samples/attention_2": "what the model looks at while it writes the second translation, as in "
        "samples/attention_1",
        "samples/attention_heads": "what each head of the last layer looks at while the model writes the first "
        "translation",
        "samples/hidden_tokens": "BERT: a text with hidden tokens, what stood there, and what the model thinks",
        "samples/neighbours": "word vectors: a few frequent words and those whose vectors are nearest to theirs",
    },
    "Without labels": {
        "samples/reconstructions": "autoencoders and Boltzmann machines: inputs, and below them what comes back "
        "from their codes; of a table, each column's true against its returned value",
        "samples/enlarged": "super-resolution: images as they were, by the network, by bicubic rule, and as they came",
        "samples/codes": "where samples lie by their codes (of a prototypical network by its outputs), in "
        "colours of their classes; more than two dimensions are seen along the two in which they vary most",
        "samples/samples": "variational autoencoders: new samples, always from the same noise; with classes, a row "
        "for each",
        "samples/latent_walk": "one code, of which one value at a time goes from low to high, a row for each value "
        "that varies most",
        "samples/interpolation": "from one image to another, along the line between their codes, a row for each two",
        "samples/manifold": "codes of two dimensions: what each place of the plane becomes",
        "samples/columns": "of a table: how the values of each column are spread, in the data and in new samples",
        "samples/generated": "GANs: new samples, always from the same noise; of points, with the real ones and, by "
        "colour, what the discriminator says of each place",
        "samples/discriminator": "GANs: how the discriminator's answers to real and to made samples are spread; where "
        "they cannot be told apart the generator has won, where they lie far apart the discriminator is too "
        "strong",
        "samples/history": "GANs: the same noise after epochs 1, 2, 4, 8, ...: how the samples came about",
        "samples/filters": "Boltzmann machines: what each hidden unit looks for; red raises, blue lowers it",
        "samples/fantasies": "Boltzmann machines: what the machine takes for likely, after many steps of Gibbs "
        "sampling",
        "samples/hidden_activity": "Boltzmann machines and stacked autoencoders: how active each hidden unit is, by "
        "sample; units that are always on or off say nothing",
    },
    "Acting": {
        "samples/episode": "one episode without exploring, what was seen, done and expected at each step",
        "samples/frames": "the episode of samples/episode, drawn at some of its steps",
    },
}
TAGS = {tag: text for section in SECTIONS.values() for tag, text in section.items()}

PATTERNS = [(re.compile(re.sub("<[^>]+>", ".+", re.escape(tag))), tag) for tag in TAGS if "<" in tag]


def described(tag: str) -> str:
    """What a chart of this name shows; nothing of one that is not in the list."""
    fitting = (listed for pattern, listed in PATTERNS if pattern.fullmatch(tag))
    return TAGS.get(tag) or TAGS.get(next(fitting, ""), "")


def page() -> str:
    """The list in markdown, a table for each family."""
    tables = []
    for name, section in SECTIONS.items():
        rows = [f"| `{tag}` | {text} |" for tag, text in section.items()]
        tables.append("\n".join([f"### {name}", "", "| chart | what it shows |", "|---|---|", *rows]))
    return "\n\n".join(tables)
