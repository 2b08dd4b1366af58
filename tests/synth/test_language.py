"""Language: what stays, what goes, and the goals on real questions (at most 0.3% dropped, at least 99% caught)."""

import json
from collections import Counter
from pathlib import Path

import pytest

from sq.core.ledger import read_rejects, read_rows
from sq.synth.filters.base import FilterContext, FilterItem
from sq.synth.filters.language import LanguageFilter, identify

DATA = Path(__file__).parent.parent.parent.parent / "shared" / "data"
KEEP = LanguageFilter()


@pytest.mark.parametrize(
    "text",
    [
        "Simplify $\\frac{\\sqrt{x}}{y}$.",
        "$2x + 3 = 7$",
        "José’s café sells crêpes at €3.50 — how many can he buy for €21?",
        "Let α, β, γ be the angles of △ABC with α + β = 90°. Find γ.",
        "Find α if α + β = γ, γ + δ = ε, ε = 2α and δ = β.",
        "Compute ∫₀^π sin x dx.",
        "Evaluate.",
        "100 + 200 = ?",
        "What is the Chinese word 三 times 4?",
    ],
)
def test_short_and_formula_heavy_english_stays(text):
    assert identify(text, KEEP)[0] == "en"


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("小明有5个苹果，他又买了3个。他现在有几个苹果？", "zh"),
        ("Anna hat fünf Äpfel und kauft noch drei. Wie viele Äpfel hat sie jetzt?", "de"),
        ("Juan tiene cinco manzanas y compra tres más. ¿Cuántas manzanas tiene ahora?", "es"),
        ("У Маши было пять яблок. Сколько яблок стало?", "ru"),
        ("Si $x + 2 = 5$, calculez la valeur de $x$ et donnez le résultat sous forme simplifiée.", "fr"),
        ("太郎は5個のりんごを持っています。", "ja"),
        ("Пусть $x^2 + 3x + 2 = 0$. Найдите $x$.", "ru"),
    ],
)
def test_other_languages_are_told(text, language):
    identified = identify(text, KEEP)[0]
    assert identified == language or (language == "ja" and identified in ("ja", "zh"))


@pytest.mark.parametrize(("file", "most"), [("gsm8k_test.jsonl", 0.003), ("math500_test.jsonl", 0.003)])
def test_real_english_questions_stay(file, most):
    if not (DATA / file).exists():
        pytest.skip(f"no {file} in ../shared/data")
    rows = [json.loads(line) for line in (DATA / file).open()]
    dropped = [r for r in rows if identify(r.get("question") or r.get("problem"), KEEP)[0] != "en"]
    assert len(dropped) / len(rows) <= most


@pytest.mark.parametrize("language", ["de", "es", "zh"])
def test_real_foreign_questions_go(language):
    if not (DATA / f"mgsm_{language}.tsv").exists():
        pytest.skip(f"no mgsm_{language}.tsv in ../shared/data")
    texts = [line.split("\t")[0] for line in (DATA / f"mgsm_{language}.tsv").open()]
    caught = [t for t in texts if identify(t, KEEP)[0] != "en"]
    assert len(caught) / len(texts) >= 0.99


def test_strict_ascii_is_an_option(run, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"question": "How much is €5 and €6?"}\n{"question": "How much is $5 and $6?"}\n')
    assert run("filter", "filters=[language]", f"input={file}", to="a")["rows"] == 2
    more = ["filters=[language]", "filters.language.ascii_only=true"]
    assert run("filter", *more, f"input={file}", to="b")["rejects/language"] == 1


SEVERAL = [
    ("How many apples does Anna have now, if she had five of them?", "en", False),
    ("Anna hat fünf Äpfel und kauft noch drei. Wie viele Äpfel hat sie jetzt?", "de", True),
    ("Si $x + 2 = 5$, calculez la valeur de $x$ et donnez le résultat sous forme simplifiée.", "fr", True),
    ("У Маши было пять яблок. Сколько яблок стало у неё теперь?", "ru", False),
    ("$2x + 3 = 7$", "de", True),
    ("制作一件袍子需要 2 匹蓝色布料和这个数量一半的白色布料。", "zh", False),
    ("Сколько яблок осталось у Пети, если он съел два из пяти яблок?", "ru", False),
]


@pytest.mark.parametrize(
    ("keep", "text", "language"),
    [
        (["de", "ru"], SEVERAL[-1][0], "ru"),
        (["zh"], SEVERAL[-1][0], "ru"),
        (["zh", "ja"], SEVERAL[-2][0], "zh"),
        (["zh", "ja"], "太郎は林檎を五個買い、三個食べました。残りは何個ですか。", "ja"),
        (["en", "uk"], "У Марійки було п'ять яблук, і вона з'їла два. Скільки яблук у неї залишилося?", "uk"),
        (["bg", "ru"], "Иван има пет ябълки и изяжда две от тях. Колко ябълки са му останали сега?", "bg"),
    ],
)
def test_a_script_tells_the_language_where_it_can(keep, text, language):
    assert identify(text, LanguageFilter(keep=keep))[0] == language


def test_several_languages_stay():
    keep = LanguageFilter(keep=["de", "fr"])
    cases = [FilterItem(row={"question": text}) for text, *_ in SEVERAL]
    found = [(case.row["language"], case.reason is None) for case in keep.apply(iter(cases), None)]
    assert found == [(language, stays) for _, language, stays in SEVERAL]
    with pytest.raises(ValueError, match=r"keep=\['german'\] is no list of languages"):
        LanguageFilter(keep=["german"])


GERMAN = "Anna hat {} rote Äpfel und kauft noch drei dazu. Wie viele Äpfel hat sie jetzt?"
FRENCH = "Marie a {} pommes vertes et en achète encore trois. Combien de pommes possède-t-elle maintenant?"


def test_languages_are_balanced_by_the_seed(run, tmp_path):
    texts = [GERMAN.format(n) for n in range(9)] + [FRENCH.format(n) for n in range(3)] + [SEVERAL[0][0], "?"]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"question": text}) + "\n" for text in texts))
    words = [f"input={tmp_path / 'q.jsonl'}", "filters=[format,language]", f"stage.scores={tmp_path / 's'}"]
    words += ["filters.language.keep=[de,fr]", "filters.language.balance=true"]
    kept = []
    for seed in (0, 1):
        metrics = run("filter", *words, f"seed={seed}", to=f"f{seed}")
        assert metrics["language/de"] == 9 and metrics["language/fr"] == 3 and metrics["balanced_away"] == 6
        rows, rejects = read_rows(tmp_path / f"f{seed}"), list(read_rejects(tmp_path / f"f{seed}"))
        kept.append([(row["language"], row["question"]) for row in rows])
        assert Counter(language for language, _ in kept[-1]) == {"de": 3, "fr": 3}
        assert Counter(r["reason"] for r in rejects) == {"balance": 6, "language": 1, "format": 1}
        assert {r["detail"] for r in rejects if r["reason"] == "balance"} == {
            "9 are in de, and 3 of each language stay"
        }
    assert kept[0] != kept[1]


def test_a_language_that_no_question_is_in_is_said(tmp_path, caplog):
    filters = LanguageFilter(keep=["de", "fr", "es"], balance=True)
    cases = [FilterItem(row={"id": text, "question": text}) for text in (GERMAN, GERMAN.lower(), FRENCH)]
    context = FilterContext(domain=None, models=None, scores=tmp_path, seed=0)
    assert sum(case.reason is None for case in filters.apply(iter(cases), context)) == 2
    assert "no question is in es; the others are balanced" in caplog.text
    with pytest.raises(ValueError, match="balance=true has nothing to balance"):
        LanguageFilter(balance=True)
