// Rows: search, filter, sort, and label by key. Everything is on the page; labels alone are sent, to the server that gave it.
(() => {
  const get = (id) => document.getElementById(id);
  const list = get("rows-list"), { token, restricted } = document.body.dataset;
  const rows = [...list.children];
  const labels = JSON.parse(document.body.dataset.labels); // of rows that are not on this page too
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const [search, outcome, stage, sort] = ["search", "outcome", "stage", "sort"].map(get);
  let at = 0;
  const visible = () => [...list.children].filter((row) => !row.hidden);
  const value = (row, name) => (row.dataset[name] === "" ? -Infinity : Number(row.dataset[name]));
  const order = (a, b) =>
    !sort.value ? rows.indexOf(a) - rows.indexOf(b)
    : sort.value === "reason" ? a.dataset.outcome.localeCompare(b.dataset.outcome)
    : value(b, sort.value) - value(a, sort.value);
  const go = (to) => {
    const found = visible();
    if (!found.length) return;
    at = Math.min(Math.max(to, 0), found.length - 1);
    found[at].focus({ preventScroll: true });
    found[at].scrollIntoView({ block: "nearest" });
  };
  const show = () => {
    const sought = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows.forEach((row) => {
      row.hidden = (outcome.value && row.dataset.outcome !== outcome.value) ||
        (stage.value && row.dataset.stage !== stage.value) || !sought.every((word) => words.get(row).includes(word));
    });
    list.append(...[...rows].sort(order));
    at = -1;
    get("status").textContent = `${visible().length} of ${rows.length} rows`;
  };
  const draw = (row) => {
    const mine = row.querySelector(".mine");
    mine.textContent = row.dataset.label && `yours: ${row.dataset.label}`;
    mine.className = `badge mine label-${row.dataset.label}`;
    row.querySelector("header .note").textContent = row.dataset.note;
  };
  const label = async (row, word, note) => {
    if (!row || !row.dataset.id) return;
    const before = [row.dataset.label, row.dataset.note];
    const chosen = Boolean(restricted || search.value.trim() || outcome.value || sort.value);
    if (!row.dataset.label || !chosen) row.dataset.chosen = chosen && word ? "yes" : "";
    [row.dataset.label, row.dataset.note] = [word, note];
    draw(row);
    if (word || note) labels[row.dataset.id] = { label: word, note, ...(row.dataset.chosen ? { chosen: true } : {}) };
    else delete labels[row.dataset.id];
    if (!token) return;
    const body = JSON.stringify({ id: row.dataset.id, label: word, note, chosen });
    try {
      const answer = await fetch("/label", { method: "POST", headers: { "X-Token": token }, body });
      if (!answer.ok) throw new Error(answer.statusText);
      get("agreement").textContent = await answer.text();
    } catch (error) {
      [row.dataset.label, row.dataset.note] = before;
      draw(row);
      get("agreement").textContent = `The label was not kept (${error.message}): is sq show still running?`;
    }
  };
  const keys = {
    j: () => go(at + 1), k: () => go(at - 1), "/": () => search.focus(),
    y: (row) => label(row, "keep", row.dataset.note), n: (row) => label(row, "reject", row.dataset.note),
    u: (row) => label(row, "", row.dataset.note),
    m: (row) => { const note = prompt("Note", row.dataset.note); if (note !== null) label(row, row.dataset.label, note); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const act = keys[event.key], row = visible()[at];
    if (!act || ("ynum".includes(event.key) && !row)) return;
    event.preventDefault();
    act(row);
  });
  list.addEventListener("focusin", (event) => { at = visible().indexOf(event.target.closest("article")); });
  get("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(labels, null, 1)]));
    link.download = "labels.json";
    link.click();
  });
  [search, outcome, stage, sort].forEach((field) => field.addEventListener("input", show));
  get("rows-form").addEventListener("submit", (event) => event.preventDefault());
  rows.forEach(draw);
  show();
})();
