"""The product: what load_dataset makes of it, its card, a second build, and what is refused."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sq.core.columns import CHAT, TABLE
from sq.core.errors import ConfigError, LedgerError, RowError
from sq.core.ledger import read_manifest, read_rows
from sq.report import build as building
from sq.report.build import build

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(made, tmp_path_factory):
    return build(made, tmp_path_factory.mktemp("built") / "dataset", licence="apache-2.0")


def test_it_loads_with_its_lineage_and_the_form_that_trainers_take(dataset, made, tmp_path):
    from datasets import load_dataset

    loaded = load_dataset(str(dataset), split="train", cache_dir=str(tmp_path))
    rows = list(read_rows(made / "select"))
    assert len(loaded) == len(rows)
    for row, source in zip(loaded, rows, strict=True):
        assert row["query"] == source["query"] and row["response"] == source["response"] and row["id"] == source["id"]
        assert row["prompt"] == [{"role": "user", "content": source["query"]}]
        assert row["completion"] == [{"role": "assistant", "content": source["response"]}]
        assert row["parents"] == source["parents"] and row["generator"] == "tiny" and row["selected_by"] == "majority"
    assert "reward" not in loaded.column_names, "a column of nulls is left out"
    assert {"judge_reply", "extra"}.isdisjoint(loaded.column_names)


def test_the_card_is_valid_and_its_figures_are_the_runs(dataset, made):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(dataset / "README.md")
    rows = read_manifest(made / "select").rows
    assert card.data.license == "apache-2.0" and card.data.size_categories == ["n<1K"]
    assert "configs" not in card.data.to_dict(), "its patterns would be all that datasets keys its cache by"
    text = card.text
    assert f"{rows:,} questions, each with one solution" in text and read_manifest(made / "select").digest in text
    for stage in ("questions-qft", "filter", "answers", "select"):
        assert f"| {stage} |" in text
    assert "questions-raw" not in text, "not on the way to these rows"
    unsolvable = read_manifest(made / "filter").reasons["unsolvable"]
    assert f"{unsolvable} unsolvable" in text and "wrote questions | tiny |" in text
    assert "Solvable by the exact oracle" in text and "| arithmetic | 40 |" in text and "No safety model" in text
    assert str(made.parent) not in text


def test_the_card_tells_no_secret_and_no_place_of_this_machine(run_copy, tmp_path):
    recipe = json.loads((run_copy / "recipe.json").read_text())
    recipe["command"] = f"sq run recipe=mini engine.api_key=sk-0123456789abcdef0123 output_dir={run_copy.resolve()}"
    (run_copy / "recipe.json").write_text(json.dumps(recipe))
    text = (build(run_copy, tmp_path / "d") / "README.md").read_text()
    assert "sq run recipe=mini" in text and "sk-0123456789abcdef0123" not in text and str(tmp_path) not in text


def test_every_column_that_a_stage_writes_is_in_the_table_and_the_card_says_what_it_is(dataset, made):
    written = {name for path in made.rglob("manifest.json") for name in json.loads(path.read_text())["schema"]}
    assert written and written <= TABLE.keys(), "sq/core/columns.py must know it"
    (columns,) = [json.loads((dataset / "build.json").read_text())["columns"]]
    text = (dataset / "README.md").read_text()
    about = {column.name: column.about for column in (*CHAT, *TABLE.values())}
    assert all(f"| `{name}` | " in text and about[name] in text for name in columns)
    assert {name for name in columns if name in TABLE} <= {c.name for c in TABLE.values() if c.dataset}


def test_a_second_build_changes_nothing_and_another_dataset_is_not_overwritten(made, run_copy, dataset):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in dataset.rglob("*") if p.is_file()}
    assert build(made, dataset, licence="apache-2.0") == dataset
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in dataset.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match="holds another dataset; choose another --output"):
        build(made, dataset, licence="mit")
    (run_copy / "dataset").mkdir()
    (run_copy / "dataset/mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="something that sq build has not made"):
        build(run_copy)
    assert (run_copy / "dataset/mine.txt").read_text() == "x"


def test_a_killed_build_leaves_nothing_and_is_made_again(made, tmp_path, monkeypatch, dataset):
    def killed(*arguments, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(building, "card", killed)
        with pytest.raises(KeyboardInterrupt):
            build(made, tmp_path / "d", licence="apache-2.0")
    assert not (tmp_path / "d").exists()
    again = build(made, tmp_path / "d", licence="apache-2.0")
    files = sorted(p.relative_to(dataset) for p in dataset.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((again / f).read_bytes() == (dataset / f).read_bytes() for f in files)


def test_shards(made, tmp_path, monkeypatch):
    from datasets import load_dataset

    monkeypatch.setattr(building, "SHARD", 10)
    where = build(made, tmp_path / "d")
    rows = read_manifest(made / "select").rows
    assert len(list((where / "data").glob("train-*-of-*.parquet"))) == -(-rows // 10)
    loaded = load_dataset(str(where), split="train", cache_dir=str(tmp_path / "c"))
    assert loaded["id"][:] == [row["id"] for row in read_rows(made / "select", ["id"])]


def test_a_selections_own_directory_will_do(made, tmp_path):
    where = build(made / "select", tmp_path / "d")
    assert json.loads((where / "build.json").read_text())["rows"] == read_manifest(made / "select").rows
    assert "| filter |" in (where / "README.md").read_text()


def test_what_cannot_be_built_is_said(made, run_copy, tmp_path):
    with pytest.raises(RowError, match="is the output of stage=answers; give that of stage=select"):
        build(made / "answers", tmp_path / "d")
    manifest = run_copy / "select/manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(LedgerError, match="damaged|not finished"):
        build(run_copy / "select", tmp_path / "d")
    assert not (tmp_path / "d").exists()


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload needs."""

    status, seen, token = 200, [], ""
    there = [".gitattributes", "README.md", "data/train-00000-of-00002-0123.parquet", "mine/notes.parquet"]

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Hub.seen.append((self.path, body))
        Hub.token = self.headers.get("authorization", "")
        if Hub.status != 200:
            return self.answer(Hub.status, {"error": "no"})
        if self.path == "/api/repos/create":
            return self.answer(200, {"url": f"{self.here}/datasets/me/mine", "id": "me/mine"})
        if "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if "/commit/" in self.path:
            return self.answer(
                200,
                {"commitUrl": f"{self.here}/datasets/me/mine/commit/0", "commitOid": "0" * 40, "commitId": "0" * 40},
            )
        return self.answer(200, {})

    @property
    def here(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def do_GET(self):
        if "/tree/" in self.path:
            return self.answer(200, [{"type": "file", "path": p, "size": 1, "oid": "0" * 40} for p in Hub.there])
        self.answer(200, {"id": "me/mine", "sha": "0" * 40, "siblings": []})

    def answer(self, status, doc):
        data = json.dumps(doc).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def push(tmp_path):
    """`push(directory, repo, token)` with a hub on this machine: exit code, what was printed."""
    Hub.status, Hub.seen = 200, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def run(directory, repo, token="hf_notarealtokenatall123", **environment):
        env = {"PATH": "/usr/bin", "HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
               "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", **environment}  # fmt: skip
        env |= {"HF_TOKEN": token} if token else {}
        command = [sys.executable, "-m", "sq.cli", "push", str(directory), "--repo", repo]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
        assert not token or token not in done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    yield run
    server.shutdown()


def test_push_uploads_every_file_and_takes_away_the_rows_of_an_earlier_build(push, dataset):
    code, said = push(dataset, "me/mine")
    assert code == 0 and "uploaded: http" in said, said
    (commit,) = [body for path, body in Hub.seen if "/commit/" in path]
    sent = [json.loads(line) for line in commit.decode().splitlines()]
    files = {line["value"]["path"] for line in sent if line["key"] == "file"}
    assert files == {str(p.relative_to(dataset)) for p in dataset.rglob("*") if p.is_file()} and len(files) == 3
    deleted = [line["value"]["path"] for line in sent if line["key"] == "deletedFile"]
    assert deleted == ["data/train-00000-of-00002-0123.parquet"]


def test_push_says_what_is_wrong(push, dataset, tmp_path):
    code, said = push(dataset, "me/mine", token="")
    assert code and "there is no token for the hub" in said and not Hub.seen
    assert "must be OWNER/NAME" in push(dataset, "mine")[1]
    assert "holds no dataset of sq build" in push(tmp_path, "me/mine")[1]
    Hub.status = 403
    code, said = push(dataset, "me/mine")
    assert code and "the token may not write to me/mine" in said and "Traceback" not in said
