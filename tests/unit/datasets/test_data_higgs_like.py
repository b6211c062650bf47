import torch
from sklearn.linear_model import LogisticRegression

from pipeline.datasets.higgs_like import build


def test_two_classes_that_a_line_tells_apart_in_part(tmp_path):
    train, test = build(tmp_path, num_train=4000, num_test=1000, noise=0.1).load()
    assert train.x.shape == (4000, 28) and test.y.shape == (1000,) and train.x.dtype == torch.float32
    torch.testing.assert_close(torch.cat([train.x, test.x]).std(0), torch.ones(28), rtol=1e-3, atol=0)
    assert 0.45 < train.y.double().mean() < 0.55
    line = LogisticRegression(max_iter=500).fit(train.x, train.y).score(test.x, test.y)
    assert 0.5 < line < 0.95


def test_samples_are_a_function_of_their_seed(tmp_path):
    sizes = {"num_train": 50, "num_test": 10}
    (one, _), (again, _), (other, _) = (build(tmp_path, sample_seed=s, **sizes).load() for s in (0, 0, 1))
    assert torch.equal(one.x, again.x) and torch.equal(one.y, again.y) and not torch.equal(one.x, other.x)
