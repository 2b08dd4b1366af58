"""The hub: without a network every failure is one clear error; with rows, they come out as those of a file do.

The rows come through `datasets` itself; only the download, which cannot run here, is replaced.
"""

import pytest

from sq.core.errors import RowError
from sq.core.rows import QUESTION
from sq.data import hub as hub_module
from sq.data.sources import SourceConfig, digest, read_source

ROWS = [{"question": f"{i}?", "answer": f"work\n#### {i}"} for i in range(30)]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(monkeypatch):
    """`datasets.load_dataset` with one dataset, `openai/gsm8k`; what it was called with is in the list."""
    import datasets

    calls = []

    def load(name, subset=None, *, revision=None, streaming=False):
        calls.append((name, subset, revision, streaming))
        if name != "openai/gsm8k":
            raise datasets.exceptions.DatasetNotFoundError(f"Dataset '{name}' doesn't exist on the Hub")
        if subset is None:
            raise ValueError(
                "Config name is missing.\nPlease pick one among the available configs: ['main', 'socratic']"
            )
        made = {s: datasets.IterableDataset.from_generator(lambda s=s: _rows(s, revision)) for s in ("train", "test")}
        return datasets.IterableDatasetDict(made)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(hub_module, "resolve_revision", lambda name, revision: revision or COMMIT)
    monkeypatch.setattr("sq.data.sources.resolve_revision", lambda name, revision: revision or COMMIT)
    return calls


def _rows(split, revision):
    for i, row in enumerate(ROWS):
        if revision == "breaks" and i == 20:
            raise ConnectionError("the line went dead")
        yield {**row, "question": f"{split} {row['question']}"}


def read(**settings):
    return list(read_source(SourceConfig(**settings), QUESTION))


def test_rows_of_the_hub_are_rows_like_any_other(hub, tmp_path):
    rows = read(input="openai/gsm8k", subset="main")
    assert [r["question"] for r in rows] == [f"train {i}?" for i in range(30)]
    assert (rows[7]["answer"], rows[7]["solution"], rows[7]["source"]) == ("7", "work", "openai/gsm8k")
    assert hub == [("openai/gsm8k", "main", COMMIT, True)]
    assert read(input="openai/gsm8k", subset="main", split="test", limit=1)[0]["question"] == "test 0?"


def test_the_digest_pins_the_commit(hub):
    one = SourceConfig(input="openai/gsm8k", subset="main")
    assert digest(one) == digest(SourceConfig(input="openai/gsm8k", subset="main", revision=COMMIT))
    assert digest(one) != digest(SourceConfig(input="openai/gsm8k", subset="main", revision="1" * 40))
    assert digest(one) != digest(SourceConfig(input="openai/gsm8k", subset="socratic"))


def test_a_stream_that_breaks_is_an_error_and_not_the_end(hub):
    rows = read_source(SourceConfig(input="openai/gsm8k", subset="main", revision="breaks"), QUESTION)
    with pytest.raises(RowError, match="broke off after 20 rows: the line went dead.*hf download"):
        list(rows)


def test_unknown_names_subsets_and_splits(hub):
    with pytest.raises(RowError, match="no file or directory 'openai/gms8k'.*doesn't exist on the Hub"):
        read(input="openai/gms8k")
    with pytest.raises(RowError, match=r"has several subsets; choose one: subset=.*'main', 'socratic'"):
        read(input="openai/gsm8k")
    with pytest.raises(RowError, match="has no split 'dev'; choose one of train, test"):
        read(input="openai/gsm8k", subset="main", split="dev")


def test_offline_names_the_fix(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for action in (
        lambda: read(input="openai/gsm8k", subset="main"),
        lambda: digest(SourceConfig(input="openai/gsm8k")),
    ):
        with pytest.raises(RowError, match="no dataset of that name could be loaded.*give a local file or directory"):
            action()


@pytest.mark.parametrize("set_by_the_user", [True, False])
def test_what_the_user_never_set_is_not_named(monkeypatch, set_by_the_user):
    monkeypatch.setattr("sq.data.hub.AT_START", {"HF_HUB_OFFLINE"} if set_by_the_user else set())
    text = hub_module._problem("fragen", OSError("offline mode is enabled. To disable it, unset HF_HUB_OFFLINE"))
    assert ("HF_HUB_OFFLINE" in text) is set_by_the_user is not ("huggingface.co cannot be reached" in text)


def test_the_cache_tells_the_commit_where_the_hub_cannot(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "datasets--openai--gsm8k" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert hub_module.resolve_revision("openai/gsm8k", None) == COMMIT
    assert hub_module.resolve_revision("openai/gsm8k", "f" * 40) == "f" * 40
