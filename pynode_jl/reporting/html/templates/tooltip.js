// One box beside the pointer or the focused cell: names and values, as text.
const tip = document.createElement("div");
tip.id = "tip";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);

function showTip(rows, x, y) {
  tip.replaceChildren(...rows.map(([name, value]) => {
    const line = document.createElement("div");
    const key = document.createElement("span");
    key.textContent = name;
    const text = document.createElement("b");
    text.textContent = value;
    line.append(key, text);
    return line;
  }));
  tip.hidden = false;
  const gap = 14;
  const below = y + gap + tip.offsetHeight <= innerHeight;
  tip.style.left = Math.max(4, Math.min(x + gap, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.max(4, below ? y + gap : y - gap - tip.offsetHeight) + "px";
}

function hideTip() {
  tip.hidden = true;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") hideTip();
});
// What the pointer was on has moved; a focused cell takes its box along.
document.addEventListener("scroll", () => {
  if (tip.hidden) return;
  hideTip();
  const focused = document.activeElement;
  if (focused?.matches("td")) focused.dispatchEvent(new Event("focusin", { bubbles: true }));
}, { capture: true, passive: true });

function labelled(text, control) {
  const label = document.createElement("label");
  label.append(text + " ", control);
  return label;
}

function searchField(hint) {
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = hint;
  field.size = Math.max(20, hint.length);
  return field;
}

function choiceOf(names) {
  const choice = document.createElement("select");
  names.forEach((name, i) => choice.add(new Option(name, i)));
  return choice;
}
