import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Nets as small as these wait for a second thread longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def same_function():
    """check(ours, theirs, images): one state dict fits both, and outputs, gradients and statistics are equal."""

    def check(ours, theirs, images):
        ours, theirs, images = ours.double(), theirs.double(), images.double()
        ours.load_state_dict(theirs.state_dict(), strict=True)
        targets = torch.arange(len(images)) % 2
        for training in (True, False):  # in this order: evaluation then sees statistics that are not 0 and 1
            given, outputs = [], []
            for model in (ours, theirs):
                torch.manual_seed(0)  # dropout
                given.append(images.clone().requires_grad_())
                model.train(training).zero_grad()
                outputs.append(model(given[-1]))
                torch.nn.functional.cross_entropy(outputs[-1], targets).backward()
            torch.testing.assert_close(*outputs, rtol=0, atol=1e-10)
            torch.testing.assert_close(given[0].grad, given[1].grad, rtol=0, atol=1e-10)
            for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
                assert a.grad.abs().sum() > 0, name
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
        for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)

    return check
