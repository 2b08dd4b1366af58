"""`sq show`: rows in the terminal, the page in a real browser, and labels that measure what a stage did."""

import http.client
import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from browser import CHROMIUM, Browser

from sq import cli
from sq.core.errors import ConfigError, RowError
from sq.core.ledger import Ledger, Reject, WorkItem
from sq.core.rows import JUDGED, SCORE
from sq.eval.answer import ANSWER
from sq.report.samples import Event
from sq.report.show import (
    Agreement,
    agreement,
    events_in,
    format_events,
    measured,
    page,
    read_labels,
    write_label,
)
from sq.report.show_server import ShowServer

HOSTILE = "</div></script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>"
REPLY = f"How many is not said: No. {HOSTILE}"
QUESTIONS = {
    "a": r"Solve $\frac{x^2+1}{2}=5$ for $x>0$.",
    "b": f"What is 2 + 2? {HOSTILE}\x1b[31m",
    "c": "How many apples does Tom have?",
    "d": f"Tom has apples. {HOSTILE}",
}
DIFFICULTY = {"a": 0.0, "b": -1.0, "c": 4.25, "d": None}


@pytest.fixture
def stage(tmp_path):
    """A filter's directory: a, b and c are kept, d is rejected."""
    with Ledger.open(tmp_path / "f", schema=JUDGED, config={"stage.name": "filter"}) as ledger:
        for item in list(ledger.todo([WorkItem(name * 32) for name in QUESTIONS])):
            name = item.key[0]
            row = {"id": item.key, "run": "r", "model": "m", "seed": 1, "parents": [], "question": QUESTIONS[name],
                   "difficulty": DIFFICULTY[name], "judge_reply": REPLY}  # fmt: skip
            rejected = [Reject(row=row, reason="unsolvable", detail=REPLY)]
            ledger.record(item.key, *([(), rejected] if name == "d" else [[row]]))
        ledger.finish()
    return tmp_path / "f"


def names(events):
    return "".join(event.row["id"][0] for event in events)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"sort": "difficulty"}, "cabd"),
        ({"search": "TOM apples"}, "cd"),
        ({"reason": "unsolvable"}, "d"),
        ({"reason": "kept", "sort": "difficulty"}, "cab"),
        ({"search": "nothing"}, ""),
    ],
)
def test_rows_are_searched_filtered_and_sorted(stage, given, shown):
    found = names(events_in(stage, most=100, **given))
    assert found == shown if "sort" in given else sorted(found) == sorted(shown)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"reason": "unsolvble"}, "--reason unsolvble is none of kept, unsolvable, did you mean 'unsolvable'?"),
        ({"sort": "reward"}, "--sort reward: no row has the column 'reward'"),
    ],
)
def test_a_reason_or_an_order_that_no_row_has_is_said(stage, given, message):
    with pytest.raises(ConfigError) as error:
        events_in(stage, most=100, **given)
    assert str(error.value) == message


@pytest.mark.parametrize(("given", "shown"), [
    ({"reason": "unsolvable"}, "d"), ({"search": "x^2"}, "a"), ({"sort": "difficulty", "reason": "kept"}, "c"),
])  # fmt: skip
def test_a_choice_is_of_the_whole_stage_not_of_a_sample(stage, given, shown):
    """Each is drawn alone where one row is; a page of one row has it."""
    assert names(events_in(stage, most=1, **given)) == shown
    cli.main(["show", str(stage), "--page", "--count", "1", *(f"--{key}={value}" for key, value in given.items())])
    text = (stage / "show.html").read_text()
    assert re.findall('data-id="(.)', text) == [shown] and "measures no stage</p>" in text


def test_the_judges_word_is_shown_with_what_it_rejected(stage, capsys):
    cli.main(["show", str(stage), "--reason", "unsolvable"])
    assert f"  Why: {REPLY}" in capsys.readouterr().out
    assert "Why: How many is not said: No. &lt;/div&gt;" in page(stage, events_in(stage, most=9, reason="unsolvable"))


def test_no_rows_are_not_ten(stage, capsys):
    with pytest.raises(SystemExit):
        cli.main(["show", str(stage), "--count", "0"])
    assert "--count 0: give at least 1" in capsys.readouterr().err


def test_the_terminal_shows_rows_without_control_characters(stage, capsys):
    cli.main(["show", str(stage), "--sort", "difficulty", "--count", "3"])
    shown = capsys.readouterr().out
    assert "difficulty 4.25" in shown and "Question: How many apples" in shown and "\x1b" not in shown
    assert shown.endswith("3 of 4 rows and rejects; a choice by --search, --reason or --sort measures no stage\n")


def test_ids_and_reasons_are_shown_without_control_characters(stage):
    event = Event(stage=events_in(stage, most=1)[0].stage, row={"id": "a\x1b[2J"}, reason="bad\x1b[31m")
    assert "".join(format_events([event])) == "a\ufffd[2J  f  rejected, bad\ufffd[31m"


def test_labels_are_kept_and_measure_the_stage(stage):
    events = events_in(stage, most=100)
    for name, label in {"a": "keep", "b": "reject", "d": "reject"}.items():
        write_label([stage], name * 32, label, "why" if name == "b" else "")
    labels = read_labels(stage)
    assert labels["b" * 32] == {"label": "reject", "note": "why"}
    found = agreement(events, labels)
    assert found == Agreement(both=1, stage_alone=0, person_alone=1, neither=1, kept=3, rejected=1)
    assert str(found).startswith("3 labelled: agreement 62% (") and "; precision of rejections 100%" in str(found)
    assert "recall of rejections 40%" in str(found), "1 of 1 reject is bad, half of 3 kept rows"
    write_label([stage], "a" * 32, "", "")
    assert "a" * 32 not in read_labels(stage)
    with pytest.raises(ConfigError, match="label='maybe' is not one of keep, reject"):
        write_label([stage], "a" * 32, "maybe", "")
    (stage / "labels.json").write_text("{")
    with pytest.raises(ConfigError, match=r"labels\.json cannot be read"):
        read_labels(stage)


def test_of_stages_with_the_same_rows_the_filter_alone_is_measured(stage):
    with Ledger.open(stage.parent / "q", schema=JUDGED, config={"stage.name": "questions"}) as ledger:
        for item in list(ledger.todo([WorkItem(name * 32) for name in QUESTIONS])):
            row = {"id": item.key, "run": "r", "parents": [], "question": QUESTIONS[item.key[0]]}
            ledger.record(item.key, [row])
        ledger.finish()
    labels = {name * 32: {"label": "reject" if name == "d" else "keep"} for name in QUESTIONS}
    events = events_in(stage.parent, most=100)
    assert len(events) == 8 and measured(events, labels) == measured(events_in(stage, most=100), labels)
    assert measured(events, labels).startswith("4 labelled: agreement 100%")
    assert "measure filters" in measured(events_in(stage.parent / "q", most=9), labels)


def test_labels_of_a_sample_count_by_how_many_rows_the_stage_has():
    whole = Agreement(both=400, stage_alone=100, person_alone=500, neither=9500, kept=10_000, rejected=500)
    drawn = Agreement(both=400, stage_alone=100, person_alone=25, neither=475, kept=10_000, rejected=500)
    shares = [re.findall(r"(\d+%) \(", str(each)) for each in (whole, drawn)]
    assert shares[0] == shares[1] == ["94%", "80%", "44%"], "agreement, precision, recall"
    assert str(Agreement(both=3, stage_alone=1, person_alone=0, neither=0, kept=9, rejected=4)).count("%") == 3


def test_kept_rows_and_rejects_are_mixed_and_a_side_without_a_label_is_named(tmp_path):
    with Ledger.open(tmp_path / "f", schema=JUDGED, config={"stage.name": "filter"}) as ledger:
        for item in list(ledger.todo([WorkItem(f"{number:032}") for number in range(60)])):
            row = {"id": item.key, "run": "r", "parents": [], "question": "q"}
            gone = int(item.key) % 2 == 0
            ledger.record(item.key, *([(), [Reject(row=row, reason="unsolvable")]] if gone else [[row]]))
        ledger.finish()
    events = events_in(tmp_path / "f", most=20)
    assert len(events) == 40 and 6 <= sum(bool(event.reason) for event in events[:20]) <= 14
    ids = {side: [e.row["id"] for e in events if bool(e.reason) == side] for side in (True, False)}
    assert "no reject is labelled yet" in measured(events, {ids[False][0]: {"label": "keep"}})
    assert "no kept row is labelled yet" in measured(events, {ids[True][0]: {"label": "keep"}})


def test_a_label_of_a_chosen_row_is_kept_and_measures_nothing(stage):
    events = events_in(stage, most=100)
    write_label([stage], "d" * 32, "reject", "", chosen=True)
    assert measured(events, read_labels(stage)) == "no row is labelled yet"
    write_label([stage], "d" * 32, "reject", "")
    assert measured(events, read_labels(stage)).startswith("1 labelled")
    write_label([stage], "d" * 32, "keep", "", chosen=True)
    assert measured(events, read_labels(stage)).startswith("1 labelled"), "it was met in the sample before"


@pytest.mark.parametrize("words", [["--search", "apples"], ["--reason", "unsolvable"], ["--sort", "difficulty"]])
def test_rows_that_were_chosen_measure_no_stage(stage, capsys, words):
    write_label([stage], "d" * 32, "reject", "")
    cli.main(["show", str(stage), *words])
    assert capsys.readouterr().out.endswith("a choice by --search, --reason or --sort measures no stage\n")
    cli.main(["show", str(stage), *words, "--page"])
    assert "measures no stage</p>" in (stage / "show.html").read_text()


def test_a_directory_without_rows_is_said(tmp_path):
    with pytest.raises(RowError, match="holds no stage's output"):
        events_in(tmp_path, most=1)
    with Ledger.open(tmp_path / "f", schema=JUDGED, config={}):
        pass
    with pytest.raises(ConfigError, match="no row is in or below .* yet"):
        events_in(tmp_path / "f", most=1)


@pytest.fixture
def evaluation(tmp_path):
    """An evaluation of one benchmark: one answer is right, one is wrong."""
    own = {"run": "r", "model": "m", "seed": 1, "parents": [], "benchmark": "mine", "sample": 0, "reference": "6"}
    for name, schema in (("answers", ANSWER), ("scores", SCORE)):
        with Ledger.open(tmp_path / "e" / "mine" / name, schema=schema, config={"benchmark": "mine"}) as ledger:
            for item in list(ledger.todo([WorkItem(letter * 32) for letter in "ab"])):
                right = item.key[0] == "a"
                row = own | {
                    "id": item.key,
                    "item": item.key,
                    "question": "1 + 5?",
                    "prediction": "6" if right else "7",
                }
                verdict, reason = ("correct", "") if right else ("wrong", "not equal")
                graded = {"profile": "strict", "extracted": row["prediction"], "correct": right, "verdict": verdict}
                graded["reason"] = reason
                ledger.record(item.key, [row | graded if name == "scores" else row])
            ledger.finish()
    return tmp_path / "e"


@pytest.mark.parametrize("place", [".", "mine", "mine/scores"])
def test_an_evaluation_shows_its_grades_and_what_was_read(evaluation, place, capsys):
    cli.main(["show", str(evaluation / place), "--reason", "wrong"])
    shown = capsys.readouterr().out
    assert "scores  wrong\n" in shown and "  Why: strict: not equal; read 7, the reference is 6" in shown
    assert "\n1 of 1 rows" in shown and [e.outcome for e in events_in(evaluation, most=9)].count("correct") == 1
    with pytest.raises(ConfigError, match="--reason kept is none of correct, wrong"):
        events_in(evaluation / place, most=9, reason="kept")


def test_an_evaluation_that_is_not_graded_yet_shows_its_answers(evaluation):
    shutil.rmtree(evaluation / "mine" / "scores")
    assert {(e.stage.name, e.outcome) for e in events_in(evaluation, most=9)} == {("mine/answers", "kept")}


def test_a_training_has_no_rows_to_show(tmp_path):
    (tmp_path / "train.json").write_text('{"config": {"stage.name": "sft"}}')
    with pytest.raises(ConfigError, match=f"a training keeps none: .* why {tmp_path} has its rejects"):
        events_in(tmp_path, most=1)


def test_no_text_of_a_model_is_part_of_the_page(stage):
    text = page(stage, events_in(stage, most=100))
    assert text.count("<script") == 1 and "<img" not in text and "<math" in text
    row = {"id": '"><script>', "question": "q"}
    evil = Event(stage=events_in(stage, most=1)[0].stage, row=row, reason='"><img src=x>')
    assert "<img" not in page(stage, [evil]) and page(stage, [evil]).count("<script") == 1


@pytest.fixture
def server(stage):
    with ShowServer(stage, events_in(stage, most=100)) as serving:
        thread = threading.Thread(target=serving.serve_forever, daemon=True)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def ask(server, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, body, {"Host": f"127.0.0.1:{server.server_port}", **headers})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_server_gives_and_takes_nothing_without_its_token_or_for_another_site(server, stage):
    right = f"/?{urlsplit(server.address).query}"
    token, label = {"X-Token": server.token}, json.dumps({"id": "a" * 32, "label": "keep", "note": ""})
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "GET", "/")[0] == ask(server, "GET", "/?token=x")[0] == 403
    assert ask(server, "GET", right, Host="evil.example")[0] == 403
    assert ask(server, "GET", "/../labels.json" + right[1:])[0] == 403
    assert ask(server, "POST", "/label", label)[0] == 403
    assert ask(server, "POST", "/label", label, **token, Host="evil.example")[0] == 403
    assert ask(server, "POST", "/label", "x" * 20_000, **token)[0] == 403
    assert ask(server, "POST", "/label", "{}", **token)[0] == 400
    assert ask(server, "POST", "/label", label.replace("aaaa", "zzzz"), **token)[0] == 404
    assert read_labels(stage) == {}
    status, text = ask(server, "GET", right)
    assert status == 200 and server.token in text
    assert ask(server, "POST", "/label", label, **token) == (200, measured(server.events, read_labels(stage)))
    assert read_labels(stage) == {"a" * 32: {"label": "keep", "note": ""}}
    found = json.dumps({"id": "b" * 32, "label": "keep", "note": "", "chosen": True})
    assert ask(server, "POST", "/label", found, **token)[0] == 200 and read_labels(stage)["b" * 32]["chosen"] is True


def test_labels_given_above_are_beside_the_rows_and_one_kept_above_can_be_taken_away(stage):
    above = stage.parent
    write_label([above], "b" * 32, "keep", "of an earlier version")
    with ShowServer(above, events_in(above, most=100)) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        token = {"X-Token": serving.token}
        for name, label in (("d", "reject"), ("b", "")):
            body = json.dumps({"id": name * 32, "label": label, "note": ""})
            assert ask(serving, "POST", "/label", body, **token)[0] == 200
        serving.shutdown()
    assert read_labels(stage) == read_labels(above) == {"d" * 32: {"label": "reject", "note": ""}}


def test_labels_that_come_at_once_are_all_kept(server, stage):
    server.places |= dict.fromkeys(keys := {f"{number:032}" for number in range(20)}, [stage])
    bodies = [json.dumps({"id": key, "label": "keep", "note": ""}) for key in sorted(keys)]
    with ThreadPoolExecutor(20) as senders:
        answers = senders.map(lambda body: ask(server, "POST", "/label", body, **{"X-Token": server.token}), bodies)
        assert {status for status, _ in answers} == {200}
    assert read_labels(stage).keys() == keys


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
def test_in_a_browser_all_labels_are_saved_those_of_rows_on_other_pages_too(stage, tmp_path):
    note = """it's \"quoted\" </script><script>window.hacked=1</script> é"""
    write_label([stage], "e" * 32, "reject", note)
    write_label([stage], "a" * 32, "keep", "")
    write_label([stage], "c" * 32, "keep", "")
    (stage / "show.html").write_text(page(stage, [e for e in events_in(stage, most=100) if e.row["id"][0] in "ab"]))
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(f"file://{stage}/show.html")
        browser.value("URL.createObjectURL = (blob) => { window.saved = blob.text(); return '#'; }")
        key = browser.value("document.querySelector('article').dataset.id[0]")
        browser.press("j", "n" if key == "b" else "u", "j", "n" if key == "a" else "u")
        browser.value("document.getElementById('save').click()")
        saved = json.loads(browser.value("window.saved"))
        assert {name[0]: value["label"] for name, value in saved.items()} == {"b": "reject", "c": "keep", "e": "reject"}
        assert saved["e" * 32]["note"] == note and browser.value("window.hacked") is None
    finally:
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
def test_in_a_browser_rows_are_searched_sorted_and_labelled_by_key(server, stage, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(server.address)
        order = "[...document.querySelectorAll('article:not([hidden])')].map((row) => row.dataset.id[0]).join('')"
        assert browser.value("window.hacked") is None and browser.value("document.querySelectorAll('img').length") == 0
        assert browser.value("document.querySelectorAll('math').length") > 0
        assert browser.value("document.getElementById('status').textContent") == "4 of 4 rows"
        choose = "(id, to) => { const field = document.getElementById(id); field.value = to; "
        choose += "field.dispatchEvent(new Event('input')); }"
        browser.value(f"({choose})('sort', 'difficulty')")
        assert browser.value(order) == "cabd"
        browser.press("j", "y", "j", "j", "n")
        browser.value(f"({choose})('sort', '')")
        first = next(key for key in browser.value(order) if key in "ad")
        browser.press(*"j" * (browser.value(order).index(first) + 1), "y")
        browser.wait("document.getElementById('agreement').textContent.startsWith('1 labelled')")
        found = {key[0]: (value["label"], value.get("chosen")) for key, value in read_labels(stage).items()}
        assert found == {"c": ("keep", True), "b": ("reject", True), first: ("keep", None)}
        browser.value(f"({choose})('search', 'tom')")
        assert browser.value(order) == "cd"
        browser.value(f"({choose})('outcome', 'unsolvable')")
        assert browser.value(order) == "d"
        browser.open(server.address)
        assert browser.value("document.querySelector('[data-label=reject]').dataset.id[0]") == "b", "it was kept"
        assert browser.value("window.hacked") is None
    finally:
        browser.close()
