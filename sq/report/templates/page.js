// Rows: search, filter by outcome and stage, turn pages. Everything is on the page already; nothing is fetched.
(() => {
  const form = document.getElementById("rows-form");
  if (!form) return;
  const size = 8;
  const rows = [...document.querySelectorAll("#rows-list > article")];
  const words = rows.map((row) => row.textContent.toLowerCase());
  const [search, outcome, stage, back, next, status, pager] = [
    "search", "outcome", "stage", "back", "next", "status", "pager",
  ].map((name) => document.getElementById("rows-" + name));
  let page = 0;
  const wanted = () => {
    const sought = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return rows.filter((row, i) =>
      (!outcome.value || row.dataset.outcome === outcome.value) &&
      (!stage.value || row.dataset.stage === stage.value) &&
      sought.every((word) => words[i].includes(word)));
  };
  const show = () => {
    const found = wanted();
    const pages = Math.max(1, Math.ceil(found.length / size));
    page = Math.min(page, pages - 1);
    const shown = new Set(found.slice(page * size, (page + 1) * size));
    rows.forEach((row) => { row.hidden = !shown.has(row); });
    const first = found.length ? page * size + 1 : 0;
    status.textContent = `${first} to ${page * size + shown.size} of ${found.length}`;
    back.disabled = page === 0;
    next.disabled = page >= pages - 1;
  };
  const turn = (by) => { page += by; show(); form.scrollIntoView({ block: "nearest" }); };
  [search, outcome, stage].forEach((field) => field.addEventListener("input", () => { page = 0; show(); }));
  form.addEventListener("submit", (event) => event.preventDefault());
  back.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  form.hidden = pager.hidden = false;
  show();
})();
