// Tables that sort by a click on a heading and show the rows that match what is typed.
const inOrder = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const few = 8;

function numberIn(text) {
  const fraction = text.match(/^([+-]?\d+)\/(\d+)$/);
  if (fraction) return fraction[1] / fraction[2];
  return parseFloat(text.replaceAll(",", ""));
}

function sortTable(table, place, button) {
  const heading = button.closest("th");
  const numbers = heading.dataset.sort === "number";
  const down = heading.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => {
    const text = row.cells[place].textContent.trim();
    const key = numbers ? numberIn(text) : text;
    return { row, key, missing: text === "–" || (numbers && Number.isNaN(key)) };
  });
  const sign = down ? -1 : 1;
  keyed.sort((a, b) => {
    // What is missing stands last, whichever way.
    if (a.missing || b.missing) return a.missing - b.missing;
    return sign * (numbers ? a.key - b.key : inOrder.compare(a.key, b.key));
  });
  body.append(...keyed.map((each) => each.row));
}

// "rk4 tied accuracy>90": every word occurs in the row, every comparison holds in its column.
function testsOf(query, names) {
  return query.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const parts = word.match(/^(.+?)(<=|>=|<|>|=)(.+)$/);
    const place = parts ? names.findIndex((name) => name.startsWith(parts[1])) : -1;
    if (place < 0) return (row) => row.textContent.toLowerCase().includes(word);
    const [, , sign, given] = parts;
    const limit = numberIn(given);
    return (row) => {
      const text = row.cells[place].textContent.trim().toLowerCase();
      const value = numberIn(text);
      if (sign === "=") return text === given || value === limit;
      if (sign === "<") return value < limit;
      if (sign === ">") return value > limit;
      return sign === "<=" ? value <= limit : value >= limit;
    };
  });
}

// As much of a heading as tells it from those before it: "nats" of "nats per dimension".
function shortName(heading, names) {
  const words = heading.trim().split(/\s+/), whole = words.join("").toLowerCase();
  for (let count = 1; count < words.length; count++) {
    const start = words.slice(0, count).join("").toLowerCase();
    if (names.find((name) => name.startsWith(start)) === whole) return words.slice(0, count).join("");
  }
  return words.join("");
}

function addFilter(table) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length <= few) return;
  const names = [...table.tHead.rows[0].cells].map((cell) =>
    cell.textContent.trim().toLowerCase().replace(/\s+/g, ""));
  const numeric = [...table.tHead.rows[0].cells].find((cell) => cell.dataset.sort === "number");
  const example = numeric ? `, or ${shortName(numeric.textContent, names)}>1` : "";
  const field = searchField("words" + example);
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  const tell = (shown) => {
    count.textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
  };
  field.addEventListener("input", () => {
    const tests = testsOf(field.value, names);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !tests.every((holds) => holds(row));
      shown += !row.hidden;
    }
    tell(shown);
  });
  tell(rows.length);
  const bar = document.createElement("div");
  bar.className = "controls";
  bar.append(labelled("Rows with", field), count);
  table.closest(".scroll").before(bar);
}

for (const table of document.querySelectorAll("table.data")) {
  if (table.tBodies[0].rows.length > 1) {
    [...table.tHead.rows[0].cells].forEach((cell, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      button.addEventListener("click", () => sortTable(table, place, button));
      cell.append(button);
    });
  }
  addFilter(table);
}
