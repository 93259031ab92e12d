"""Data for training: streams of chunks, splits, scales, one-hot rows, the data sets, CSV files."""

import builtins

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import koubai as kb
from koubai import nn
from koubai.errors import InputError, MissingPackageError, UnknownNameError
from koubai.nn.datasets import TOYS

RNG = np.random.default_rng(0)


# -- streams ----------------------------------------------------------------------------------------------------------


def chunks(*lengths):
    """A function of the epoch that gives numbered samples in chunks of these lengths."""

    def source(epoch):
        start = 0
        for length in lengths:
            rows = np.arange(start, start + length)
            yield np.column_stack([rows, -rows]), rows
            start += length

    return source


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.integers(1, 15),
    st.one_of(st.none(), st.integers(0, 5)),
    st.integers(0, 3),
)
def test_a_stream_gives_every_sample_once_in_whole_batches(lengths, size, seed, epoch):
    stream = nn.batches(chunks(*lengths), size=size, seed=seed)
    got = list(stream.epoch(epoch))
    assert [len(x) for x, _ in got[:-1]] == [size] * (len(got) - 1)
    assert 1 <= len(got[-1][0]) <= size
    rows = np.concatenate([y for _, y in got])
    assert sorted(rows) == list(range(sum(lengths)))
    assert np.array_equal(np.concatenate([x[:, 0] for x, _ in got]), rows)
    if seed is None:
        assert rows.tolist() == list(range(sum(lengths)))
    start = 0
    for length in lengths:  # chunks keep their order
        assert set(rows[start : start + length]) == set(range(start, start + length))
        start += length


def test_the_order_of_a_stream_follows_from_seed_and_epoch():
    def rows(seed, epoch):
        return np.concatenate([y for _, y in nn.batches(chunks(50, 50), size=8, seed=seed).epoch(epoch)]).tolist()

    assert rows(1, 2) == rows(1, 2)
    assert rows(1, 2) != rows(1, 3)
    assert rows(1, 2) != rows(2, 2)


def test_a_descent_is_fed_from_a_stream():
    X = RNG.standard_normal((60, 3))
    w = np.array([1.0, -2.0, 3.0])

    def source(epoch):
        for start in range(0, 60, 25):
            yield X[start : start + 25], X[start : start + 25] @ w

    run = kb.minimize(
        lambda w, x, y: np.mean((x @ w - y) ** 2), np.zeros(3), kb.SGD(lr=0.1),
        batches=nn.batches(source, size=8), max_steps=800, gtol=1e-8,
    )  # fmt: skip
    assert run.success
    np.testing.assert_allclose(run.x, w, atol=1e-6)


def test_chunks_may_be_single_arrays():
    got = list(nn.batches(lambda epoch: [np.arange(5), np.arange(5, 9)], size=4, seed=None))
    assert [x.tolist() for (x,) in got] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda epoch: [], "gave nothing in epoch 0"),
        (lambda epoch: [(np.zeros((3, 2)), np.zeros(2))], "X of chunk 0 of epoch 0 has 3 samples, y has 2"),
        (lambda epoch: [np.zeros((3, 2)), np.zeros((3, 4))], "chunk 1 of epoch 0 has samples of shapes"),
        (lambda epoch: [np.zeros((3, 2)), (np.zeros((3, 2)), np.zeros(3))], "chunk 1 of epoch 0 has samples of shapes"),
        (lambda epoch: [np.zeros((0, 2))], "X of chunk 0 of epoch 0 has no samples"),
        (lambda epoch: [[[1.0, 2.0], [3.0]]], "X of chunk 0 of epoch 0 has 2 samples, y has 1"),
        (lambda epoch: [([[1.0, 2.0], [3.0]], [0, 1])], "every sample must have the same shape"),
    ],
)
def test_a_bad_chunk_is_named(source, message):
    with pytest.raises(InputError, match=message):
        list(nn.batches(source, size=2))


def test_what_can_be_read_only_once_is_refused():
    with pytest.raises(InputError, match="can be read only once: give a function of the epoch"):
        nn.batches((x for x in np.eye(3)), size=2)
    with pytest.raises(InputError, match="it gives the labels too"):
        nn.batches(chunks(3), np.zeros(3))


# -- split ------------------------------------------------------------------------------------------------------------


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.one_of(st.none(), st.integers(0, 9)), st.booleans())
def test_a_split_parts_the_samples(n, fraction, seed, stratified):
    held = round(fraction * n)
    X, y = np.arange(n), np.arange(n) % 3
    if held in (0, n):
        with pytest.raises(InputError, match="leaves one part empty"):
            nn.split(X, y, fraction, seed, stratified=stratified)
        return
    (Xt, yt), (Xv, yv) = nn.split(X, y, fraction, seed, stratified=stratified)
    assert len(Xv) == held
    assert sorted([*Xt, *Xv]) == list(range(n))
    assert np.array_equal(yt, Xt % 3)
    assert np.array_equal(yv, Xv % 3)
    assert (np.diff(Xt) > 0).all()
    assert (np.diff(Xv) > 0).all()
    if stratified:
        for k in range(3):
            assert abs(np.sum(yv == k) - fraction * np.sum(y == k)) < 1.5


def test_a_stratified_split_keeps_rare_classes_on_both_sides():
    y = np.repeat([0, 1], [95, 5])
    (_, yt), (_, yv) = nn.split(np.arange(100), y, 0.2, stratified=True)
    assert np.bincount(yt).tolist() == [76, 4]
    assert np.bincount(yv).tolist() == [19, 1]
    (_, again), _ = nn.split(np.arange(100), nn.one_hot(y), 0.2, stratified=True)
    assert np.array_equal(again.argmax(axis=1), yt)
    (_, text), _ = nn.split(np.arange(100), np.array(["no", "yes"])[y], 0.2, stratified=True)
    assert np.unique(text, return_counts=True)[1].tolist() == [76, 4]


def test_a_split_follows_from_the_seed():
    parts = [nn.split(np.arange(100), seed=seed)[1] for seed in (0, 0, 1)]
    assert np.array_equal(parts[0], parts[1])
    assert not np.array_equal(parts[0], parts[2])
    assert nn.split(np.arange(10), seed=None)[1].tolist() == [8, 9]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.eye(3), np.zeros(2)), {}, "X has 3 samples, y has 2"),
        ((np.eye(3), None, 1.0), {}, "fraction must lie between 0 and 1"),
        ((np.eye(3), None, True), {}, "fraction must lie between 0 and 1"),
        ((np.eye(3), None, 0.5, 1.5), {}, "seed must be"),
        ((np.eye(3),), {"stratified": True}, "give y, the labels"),
        ((np.eye(3), np.zeros((3, 1))), {"stratified": True}, "one label a sample"),
    ],
)
def test_split_refuses_by_name(arguments, options, message):
    with pytest.raises(InputError, match=message):
        nn.split(*arguments, **options)


# -- scales -----------------------------------------------------------------------------------------------------------


def test_standardizing_learns_from_the_training_part_alone():
    train, other = 5 + 3 * RNG.standard_normal((200, 4)), RNG.standard_normal((50, 4))
    train[:, 2] = 0.1  # constant, and not exact in binary
    scale = nn.standardize(train)
    Z = scale(train)
    np.testing.assert_allclose(Z.mean(axis=0), 0, atol=1e-14)
    np.testing.assert_allclose(Z.std(axis=0), [1, 1, 0, 1], atol=1e-14)
    np.testing.assert_allclose(scale(other), (other - train.mean(axis=0)) / np.where([1, 1, 0, 1], train.std(0), 1))
    np.testing.assert_allclose(scale.inverse(scale(other)), other, atol=1e-13)


def test_images_are_standardized_by_channel_and_float32_stays():
    X = (100 + RNG.standard_normal((30, 3, 5, 4)) * [[[1]], [[2]], [[3]]]).astype(np.float32)
    scale = nn.standardize(X, axis=(0, 2, 3))
    assert scale.mean.shape == (3, 1, 1)
    Z = scale(X)
    assert Z.dtype == np.float32
    np.testing.assert_allclose(Z.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(Z.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_what_is_larger_than_memory_is_standardized_in_blocks(tmp_path, monkeypatch):
    X = 1e6 + RNG.standard_normal((103, 2))
    stored = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=X.shape)
    stored[:] = X
    monkeypatch.setattr("koubai.nn.data.ROWS", 10)
    scale = nn.standardize(stored)
    np.testing.assert_allclose(scale.mean, X.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(scale.std, X.std(axis=0), rtol=1e-9)
    stored[57, 1] = np.nan
    with pytest.raises(InputError, match=r"X\[57, 1\] = nan"):
        nn.standardize(stored)


@pytest.mark.parametrize(
    ("X", "axis", "message"),
    [
        (np.zeros((0, 2)), 0, "no samples"),
        (np.array(["a", "b"]), 0, "must hold real numbers"),
        (np.eye(3), 1, "axis must be axes of X"),
        (np.eye(3), (0, 5), "axis must be axes of X"),
        (np.eye(3), (0, 0), "axis must be axes of X"),
    ],
)
def test_standardize_refuses_by_name(X, axis, message):
    with pytest.raises(InputError, match=message):
        nn.standardize(X, axis)


def test_a_standardizer_takes_only_samples_of_its_shape():
    with pytest.raises(InputError, match=r"X has samples of shape \(3,\), the standardizer was made from \(2,\)"):
        nn.standardize(RNG.standard_normal((5, 2)))(np.eye(3))


@given(st.lists(st.integers(0, 8), min_size=1), st.sampled_from([np.float32, np.float64, np.int64]))
def test_one_hot_rows_hold_one_one(labels, dtype):
    out = nn.one_hot(labels, 9, dtype)
    assert out.dtype == dtype
    assert out.shape == (len(labels), 9)
    assert out.sum(axis=1).tolist() == [1] * len(labels)
    assert out.argmax(axis=1).tolist() == labels
    assert nn.one_hot(np.array([labels])).shape == (1, len(labels), max(labels) + 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 3, 1], 3), r"labels\[1\] = 3"),
        (([[0, -1]],), r"labels\[0, 1\] = -1"),
        (([0.0, 1.0],), "must be whole numbers"),
        ((["a"],), "np.unique gives numbers for names"),
        ((np.array([], dtype=int),), "labels is empty"),
        (([0], 0), "classes must be"),
    ],
)
def test_one_hot_refuses_by_name(arguments, message):
    with pytest.raises(InputError, match=message):
        nn.one_hot(*arguments)


# -- data sets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_seeded_and_balanced(name):
    toy = getattr(nn, name)
    X, y = toy(101)
    assert (X.shape, X.dtype, y.dtype) == ((101, 2), np.float64, np.int64)
    assert np.ptp(np.bincount(y)) <= 1
    assert np.array_equal(X, toy(101)[0])
    assert not np.array_equal(X, toy(101, seed=1)[0])
    for arguments, message in (((1,), "n must be"), ((10, -1.0), "noise must be"), ((10, 0.1, -1), "seed must be")):
        with pytest.raises(InputError, match=message):
            toy(*arguments)


def test_the_toys_lie_where_their_formulas_say():
    (X, y), r = nn.circles(400, noise=0), np.array([1.0, 0.5])
    np.testing.assert_allclose(np.hypot(*X.T), r[y])
    X, y = nn.moons(400, noise=0)
    np.testing.assert_allclose(np.hypot(*(X - np.where(y[:, None] == 0, [0, 0], [1, 0.5])).T), 1)
    assert (X[y == 0, 1] >= 0).all()
    assert (X[y == 1, 1] <= 0.5).all()
    X, y = nn.xor(400, noise=0)
    assert np.array_equal(y, (X[:, 0] * X[:, 1] < 0).astype(int))
    X, y = nn.spirals(400, noise=0, classes=4)
    turned = np.arctan2(X[:, 1], X[:, 0]) - 4 * np.hypot(*X.T) - np.pi / 2 * y
    np.testing.assert_allclose(np.cos(turned), 1)
    X, y = nn.blobs(3000, noise=0.1, classes=5)
    for k in range(5):
        angle = np.pi / 2 + 2 * np.pi * k / 5
        np.testing.assert_allclose(X[y == k].mean(axis=0), [np.cos(angle), np.sin(angle)], atol=0.02)
        np.testing.assert_allclose(X[y == k].std(axis=0), 0.1, rtol=0.1)
    with pytest.raises(InputError, match="classes must be"):
        nn.blobs(classes=1)
    with pytest.raises(InputError, match="n must be a whole number ≥ 5"):
        nn.spirals(4, classes=5)


def test_the_digits():
    X, y = nn.digits()
    assert (X.shape, X.dtype, y.dtype) == ((1797, 64), np.float32, np.int64)
    assert (X.min(), X.max()) == (0, 1)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    images, _ = nn.digits(images=True)
    assert images.shape == (1797, 1, 8, 8)
    assert np.array_equal(images.reshape(1797, 64), X)


def test_without_scikit_learn_the_digits_name_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match="scikit-learn, which is not installed: pip install scikit-learn"):
        nn.digits()


# -- CSV files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def csv(tmp_path):
    def write(text, **encoding):
        path = tmp_path / "data.csv"
        path.write_text(text, **({"encoding": "utf-8"} | encoding))
        return path

    return write


def test_a_csv_file_with_names_and_text_labels(csv):
    path = csv("kind, width,height\nwolf,1.5,2\n\ncat,-3e2,0\nwolf,0,1\n")
    table = nn.read_csv(path, "kind")
    assert table.X.tolist() == [[1.5, 2], [-300, 0], [0, 1]]
    assert table.y.tolist() == [1, 0, 1]
    assert (table.classes, table.features, table.label) == (("cat", "wolf"), ("width", "height"), "kind")
    X, y = table
    assert (X is table.X, y is table.y) == (True, True)


def test_the_label_is_the_last_column_unless_named(csv):
    path = csv("a,b,c\n1,2,3\n4,5,6.5\n")
    assert nn.read_csv(path).y.tolist() == [3, 6.5]
    assert nn.read_csv(path, "b").X.tolist() == [[1, 3], [4, 6.5]]
    assert nn.read_csv(path, "b").y.dtype == np.int64


def test_a_file_without_names(csv):
    table = nn.read_csv(csv("5.1,3.5,Iris-setosa\n4.9,3.0,Iris-virginica\n"))
    assert table.X.tolist() == [[5.1, 3.5], [4.9, 3.0]]
    assert (table.classes, table.features, table.label) == (("Iris-setosa", "Iris-virginica"), None, None)


def test_names_that_are_numbers_need_to_be_told(csv):
    path = csv("2023,2024,kind\n1,2,x\n3,4,y\n")
    assert len(nn.read_csv(path).X) == 3
    assert nn.read_csv(path, header=True).features == ("2023", "2024")


def test_quotes_byte_order_marks_windows_lines_and_delimiters(csv):
    path = csv('"a";"b, really";label\r\n1;"2";"x ""y"""\r\n3;4;z', encoding="utf-8-sig", newline="")
    table = nn.read_csv(path, delimiter=";")
    assert table.features == ("a", "b, really")
    assert table.X.tolist() == [[1, 2], [3, 4]]
    assert table.classes == ('x "y"', "z")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b,y\n1,2,0\n\n3,four,1\n", {}, r"line 4, column 2 \(b\) is 'four', not a number"),
        ("y,a,b\n0,1,2\n1,,3\n", {"label": "y"}, r"line 3, column 2 \(a\) is empty"),
        ("1,2,0\n3,nan,1\n", {}, r"line 2, column 2 is nan"),
        ("y,a\n1,2\n0,inf\n", {"label": "y"}, r"line 3, column 2 \(a\) is inf"),
        ("a,b,y\n1,2,0\n3,4\n", {}, "line 3 has 2 cells, the first line has 3"),
        ("a,b,y\n1,2,0\n3,4,5,6\n", {}, "line 3 has 4 cells"),
        ("a,y\n1,2\n3,two\n", {}, r"line 3, column 2 \(y\) is 'two', but the first label is a number"),
        ("a,y\n1,two\n3,2\n", {}, r"line 3, column 2 \(y\) is '2', but the first label is text"),
        ("a,y\n1,\n", {}, r"line 2, column 2 \(y\) is empty"),
        ("a,y\n1,2\n3,nan\n", {}, r"line 3, column 2 \(y\) is 'nan', not a finite number"),
        ("", {}, "is empty"),
        ("a,b\n", {}, "no samples"),
        ("a\n1\n", {}, "has one column"),
        ("1,2\n", {"label": "a"}, "begins without a line of names"),
        ("a,a,y\n1,2,3\n", {"label": "a"}, "has 2 columns called 'a'"),
    ],
)
def test_a_bad_csv_file_is_refused_with_line_and_column(csv, text, options, message):
    with pytest.raises(InputError, match=message):
        nn.read_csv(csv(text), **options)


def test_files_that_are_no_csv(csv, tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        nn.read_csv(tmp_path / "none.csv")
    path = csv("")
    path.write_bytes(b"\xff\xfe\x00binary\x00\n")
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        nn.read_csv(path)
    with pytest.raises(UnknownNameError, match="did you mean 'width'"):
        nn.read_csv(csv("width,kind\n1,2\n"), "widht")


@pytest.mark.parametrize(
    "labels",
    [
        [9007199254740992, 9007199254740993],  # no float64 lies between them
        [-(2**63), 2**63 - 1, -(2**63) + 1],
        [76561198000000001, 76561198000000002, 76561198000000003],
    ],
)
def test_whole_labels_are_not_rounded(csv, labels):
    y = nn.read_csv(csv("".join(f"1,{label}\n" for label in labels))).y
    assert y.dtype == np.int64
    assert y.tolist() == labels


@pytest.mark.parametrize("label", [2**63, -(2**63) - 1, 10**300])
def test_whole_labels_beyond_64_bits_are_refused(csv, label):
    with pytest.raises(InputError, match=r"line 2, column 2 is .*, beyond whole numbers of 64 bits; put a letter"):
        nn.read_csv(csv(f"1,2\n1,{label}\n"))


@pytest.mark.parametrize("delimiter", ["", ";;", None, 3])
def test_a_delimiter_is_one_character(csv, delimiter):
    with pytest.raises(InputError, match="delimiter must be one character"):
        nn.read_csv(csv("1,2\n"), delimiter=delimiter)
