// Sorts a table by the column whose heading is pressed: up, down, then as it was. Cells sort by
// the first number in them, if the column has any, else as text; empty ones come last.
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  if (!table.tHead || body.rows.length < 2) continue;
  const order = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];
  const first = (text) => text.match(/[-+]?\d[\d,]*(\.\d+)?/);
  const numeric = headings.map(
    (heading, column) =>
      heading.className !== "text" && order.some((row) => first(row.cells[column].textContent)),
  );
  const value = (row, column) => {
    const text = row.cells[column].textContent.trim();
    if (!numeric[column]) return text || null;
    const number = first(text);
    return number ? parseFloat(number[0].replaceAll(",", "")) : null;
  };
  const compare = (one, other) =>
    typeof one === "number" && typeof other === "number"
      ? one - other
      : String(one).localeCompare(String(other));
  const sort = (column) => {
    const before = headings[column].getAttribute("aria-sort");
    const sign = before === "ascending" ? -1 : before === "descending" ? 0 : 1;
    for (const heading of headings) heading.removeAttribute("aria-sort");
    const rows = [...order];
    if (sign) {
      headings[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      rows.sort((one, other) => {
        const [a, b] = [value(one, column), value(other, column)];
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * compare(a, b);
      });
    }
    body.append(...rows);
  };
  headings.forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sort(column));
    heading.replaceChildren(button);
  });
}
// What is folded is printed, too.
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.open = true;
    one.dataset.folded = "";
  }
});
addEventListener("afterprint", () => {
  for (const one of document.querySelectorAll("details[data-folded]")) {
    one.open = false;
    delete one.dataset.folded;
  }
});
