"""What data hands to tasks: NamedTuples of tensors.

Every batch has `.inputs`, the tuple that a model is called with, and `.targets`, what its answer is compared with.

Axes: B batch, C channels, H height (of an image) or horizon (of a series), W width, F features, K classes or target
columns, T steps (of a target), S steps of a source, L steps of the past, M things in an image, A values of an
action
"""

from typing import NamedTuple

from torch import Tensor


class ImageBatch(NamedTuple):
    """Images with one label each.

    image: (B, C, H, W) float, already normalized.
    label: (B,) int64 class index, or (B, K) float in {0, 1} for several labels an image.
    """

    image: Tensor
    label: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.image,)

    @property
    def targets(self) -> Tensor:
        return self.label


class DomainBatch(NamedTuple):
    """Labelled images of a source domain, and images of a target domain whose labels nobody knows.

    image: (B, C, H, W) float, of the source.
    label: (B,) int64 class index, of the source.
    target: (B, C, H, W) float, of the target; row i has nothing to do with row i of the source.
    """

    image: Tensor
    label: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.image,)

    @property
    def targets(self) -> Tensor:
        return self.label


class MaskBatch(NamedTuple):
    """Images with the class of each pixel.

    image: (B, C, H, W) float, already normalized.
    mask: (B, H, W) int64 class index; 255 where nobody knows, which does not count.
    """

    image: Tensor
    mask: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.image,)

    @property
    def targets(self) -> Tensor:
        return self.mask


class BoxBatch(NamedTuple):
    """Images with a box and a class for each thing in them, padded to the most in the part.

    image: (B, C, H, W) float, already normalized.
    boxes: (B, M, 4) float, left, top, right, bottom in pixels, counted from the image's corner; 0 where padded.
    labels: (B, M) int64 class index; -1 where padded.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.image,)

    @property
    def targets(self) -> Tensor:
        return self.labels


class TableBatch(NamedTuple):
    """Rows of a table.

    x: (B, F) float, already encoded and standardized.
    target: (B,) int64 class index; (B, K) float in {0, 1} for several labels; (B, K) float for regression.
    """

    x: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.x,)

    @property
    def targets(self) -> Tensor:
        return self.target


class TextBatch(NamedTuple):
    """Texts with one label each, padded to the longest.

    tokens: (B, T) int64, numbers of the vocabulary.
    mask: (B, T) bool, True where a token is real; padding comes last.
    label: (B,) int64 class index; (B, K) float in {0, 1} for several labels; (B, K) float for regression.
    """

    tokens: Tensor
    mask: Tensor
    label: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return (self.tokens, self.mask)

    @property
    def targets(self) -> Tensor:
        return self.label


class SequenceBatch(NamedTuple):
    """Sequences of vectors, padded to the longest, with a target for each sequence or for each step.

    x: (B, T, F) float.
    mask: (B, T) bool, True where a step is real; padding comes last.
    target: of a sequence (B,) int64 or (B, K) float; of each step (B, T) int64 or (B, T, K) float.
    """

    x: Tensor
    mask: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return (self.x, self.mask)

    @property
    def targets(self) -> Tensor:
        return self.target


class TokenBatch(NamedTuple):
    """Windows of running text; what is to be predicted at each place is the token after it.

    tokens: (B, T) int64.
    targets: (B, T) int64.
    """

    tokens: Tensor
    targets: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.tokens,)


class SeriesBatch(NamedTuple):
    """Windows of a time series: what is known, and what comes after it.

    past: (B, L, C) float, standardized.
    future: (B, H, C) float, standardized alike.
    """

    past: Tensor
    future: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.past,)

    @property
    def targets(self) -> Tensor:
        return self.future


class PairBatch(NamedTuple):
    """Sources, each with the sequence that it is to become, padded to the longest.

    src: (B, S) int64, tokens, the last real one `<eos>`; or images (B, C, H, W) float.
    src_mask: (B, S) bool, True where a token is real; padding comes last. None for images.
    tgt_in: (B, T) int64, what the model has read before each answer: `<bos>` and the target; 0 where padded.
    tgt_out: (B, T) int64, what is right at each step: the target and `<eos>`; 0, which is `<pad>`, where padded.
    index: (B,) int64, the sample's number in its part, by which its reference is found; None where there is none.
    """

    src: Tensor
    src_mask: Tensor | None
    tgt_in: Tensor
    tgt_out: Tensor
    index: Tensor | None = None  # type: ignore[assignment]  # tuples have an `index` of their own

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None, Tensor]:
        return (self.src, self.src_mask, self.tgt_in)

    @property
    def targets(self) -> Tensor:
        return self.tgt_out

    @property
    def tgt_mask(self) -> Tensor:
        """(B, T) bool, True where a step of the target is real."""
        return self.tgt_out != 0


class MaskedTokenBatch(NamedTuple):
    """Windows of text in which some tokens are hidden; what was there is to be told.

    tokens: (B, T) int64, as the model sees them.
    mask: (B, T) bool, True where a token is real; padding comes last.
    targets: (B, T) int64, the text as it was.
    hidden: (B, T) bool, True where the target counts.
    """

    tokens: Tensor
    mask: Tensor
    targets: Tensor
    hidden: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor]:
        return (self.tokens, self.mask)


class SkipgramBatch(NamedTuple):
    """Words with what stands near them, and with words drawn by chance.

    center: (B,) int64 for skip-gram; (B, C) int64 the words around, 0 where there are fewer, for CBOW.
    context: (B,) int64, the word that was near (skip-gram) or in the middle (CBOW).
    negatives: (B, N) int64, drawn from the noise distribution.
    """

    center: Tensor
    context: Tensor
    negatives: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return (self.center, self.context, self.negatives)


class TransitionBatch(NamedTuple):
    """Steps of episodes: what was done in a state, and what came of it.

    state, next_state: (B, F) float.
    action: (B,) int64, number of an action; or (B, A) float.
    reward: (B,) float.
    terminated: (B,) bool, True where the world itself has ended, so that nothing follows. Not where a time limit cut
        the episode short: what would have followed is worth what it always is.
    """

    state: Tensor
    action: Tensor
    reward: Tensor
    next_state: Tensor
    terminated: Tensor

    @property
    def inputs(self) -> tuple[Tensor]:
        return (self.state,)
