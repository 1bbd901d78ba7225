// Matrices: another value or order at a choice, rows and columns by name, each cell told in a box.
function setUpMatrix(block) {
  const given = JSON.parse(block.querySelector("script").textContent);
  const table = block.querySelector("table");
  const heads = [...table.tHead.rows[0].cells].slice(1);
  const rows = [...table.tBodies[0].rows];
  const cells = rows.map((row) => [...row.cells].slice(1));
  const names = { rows: rows.map((row) => row.cells[0].textContent), columns: heads.map((head) => head.textContent) };
  const hidden = { rows: names.rows.map(() => false), columns: names.columns.map(() => false) };
  const place = new Map();
  cells.forEach((row, i) => row.forEach((cell, j) => place.set(cell, [i, j])));

  function show(layer) {
    const { values, levels, ends } = given.layers[layer];
    cells.forEach((row, i) => row.forEach((cell, j) => {
      const kept = given.marks[i][j];
      cell.className = `l${levels[i][j]} ${kept}`.trim();
      if (!kept.includes("failed")) cell.textContent = values[i][j];
    }));
    block.querySelectorAll(".end").forEach((end, i) => { end.textContent = ends[i]; });
    block.querySelector(".scale b").textContent = given.layers[layer].name;
  }

  function order(which) {
    const { rows: down, columns: across } = given.orders[which];
    table.tHead.rows[0].append(...across.map((j) => heads[j]));
    down.forEach((i) => rows[i].append(...across.map((j) => cells[i][j])));
    table.tBodies[0].append(...down.map((i) => rows[i]));
  }

  function filter(side, text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    hidden[side] = names[side].map((name) => !words.every((word) => name.toLowerCase().includes(word)));
    rows.forEach((row, i) => {
      row.hidden = hidden.rows[i];
      cells[i].forEach((cell, j) => { cell.hidden = hidden.columns[j]; });
    });
    heads.forEach((head, j) => { head.hidden = hidden.columns[j]; });
    const count = (flags) => flags.filter((flag) => !flag).length;
    status.textContent = `${count(hidden.rows)} by ${count(hidden.columns)} shown`;
  }

  function tellCell(cell, x, y) {
    const [i, j] = place.get(cell);
    const told = [[given.sides[0], names.rows[i]], [given.sides[1], names.columns[j]]];
    for (const [name, texts] of given.details) if (texts[i][j]) told.push([name, texts[i][j]]);
    showTip(told, x, y);
  }

  const bar = document.createElement("div");
  bar.className = "controls";
  const status = document.createElement("span");
  status.setAttribute("role", "status");
  if (given.layers.length > 1) {
    const choice = choiceOf(given.layers.map((layer) => layer.name));
    choice.addEventListener("change", () => show(choice.value));
    bar.append(labelled("Show", choice));
  }
  if (given.orders.length > 1) {
    const choice = choiceOf(given.orders.map((each) => each.name));
    choice.addEventListener("change", () => order(choice.value));
    bar.append(labelled("Order by", choice));
  }
  for (const [i, side] of ["rows", "columns"].entries()) {
    if (names[side].length <= few) continue;
    const field = searchField("part of a name");
    field.addEventListener("input", () => filter(side, field.value));
    bar.append(labelled(given.sides[i], field));
  }
  bar.append(status);
  block.querySelector(".scroll").before(bar);

  order(0);

  // One cell can be reached by Tab, the others from it by arrows.
  let reached = rows.length ? table.tBodies[0].rows[0].cells[1] : null;
  if (reached) reached.tabIndex = 0;
  table.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step || !place.has(event.target)) return;
    const shown = rows.filter((row) => !row.hidden).sort((a, b) => a.rowIndex - b.rowIndex);
    const row = shown[shown.indexOf(event.target.parentElement) + step[0]];
    if (!row) return;
    const across = [...row.cells].filter((cell) => !cell.hidden);
    const at = [...event.target.parentElement.cells].filter((cell) => !cell.hidden).indexOf(event.target);
    const next = across[at + step[1]];
    if (!place.has(next)) return;
    event.preventDefault();
    reached.tabIndex = -1;
    reached = next;
    reached.tabIndex = 0;
    reached.focus();
  });
  table.addEventListener("focusin", (event) => {
    if (!place.has(event.target)) return;
    const box = event.target.getBoundingClientRect();
    tellCell(event.target, box.right, box.bottom);
  });
  table.addEventListener("focusout", hideTip);
  table.addEventListener("pointermove", (event) => {
    const cell = event.target.closest("td");
    if (cell) tellCell(cell, event.clientX, event.clientY);
    else hideTip();
  });
  table.addEventListener("pointerleave", hideTip);
}

document.querySelectorAll(".matrix").forEach(setUpMatrix);
