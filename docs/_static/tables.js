// A search field above each table in a .searchable block, and headings that sort it. On a narrow page
// each row is a card (site.css), whose cells have their headings before them.
const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", th: "columnheader", td: "cell" };
for (const block of document.querySelectorAll(".searchable")) {
  const table = block.querySelector("table");
  const rows = [...table.tBodies[0].rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const bar = document.createElement("div");
  bar.className = "searchable-bar";
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "Filter: words that a row must have, such as verner jax";
  field.setAttribute("aria-label", "Filter the table");
  const count = document.createElement("output");
  bar.append(field, count);
  block.before(bar);

  const show = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !words.every((word) => texts[i].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = `${shown} of ${rows.length}`;
  };
  field.addEventListener("input", show);
  const asked = new URLSearchParams(location.search).get("filter");
  if (asked) field.value = asked;
  show();

  const headings = [...table.tHead.rows[0].cells];
  const labels = headings.map((heading) => heading.textContent.trim());
  // Cards are no table's boxes: without roles a screen reader would read no table.
  for (const [tag, role] of Object.entries(roles)) {
    if (tag === "table") table.setAttribute("role", role);
    for (const each of table.querySelectorAll(tag)) each.setAttribute("role", role);
  }
  for (const row of rows) {
    [...row.cells].forEach((cell, i) => {
      cell.dataset.label = labels[i];
      cell.classList.toggle("empty", !cell.textContent.trim());
    });
    // Long names may be broken between their words; a search in the page still finds them whole.
    const name = row.cells[0].querySelector(".pre") ?? row.cells[0];
    const words = name.textContent.split(/(?<=[a-z0-9])(?=[A-Z][a-z])/);
    name.replaceChildren(...words.flatMap((word, i) => (i ? [document.createElement("wbr"), word] : [word])));
  }
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent.trim();
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].textContent.trim();
      const sorted = [...rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (!x || !y) return !x - !y; // empty cells last, whichever way
        return (up ? 1 : -1) * x.localeCompare(y, "en", { numeric: true });
      });
      table.tBodies[0].append(...sorted);
    });
  });
}
