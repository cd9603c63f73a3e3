"use strict";

// The matrix: sort by a column, narrow by text and by name.
const table = document.getElementById("cells");
const body = table.tBodies[0];
const rows = [...body.rows];
const headings = [...table.tHead.rows[0].cells];

function compare(left, right) {
  const numbers = [Number(left), Number(right)];
  return numbers.some(Number.isNaN) ? left.localeCompare(right, "en", { numeric: true }) : numbers[0] - numbers[1];
}

function sortBy(column) {
  const heading = headings[column];
  const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  headings.forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  const value = (row) => row.cells[column].dataset.value;
  rows.sort((a, b) => {
    // What was not measured comes last either way.
    if (value(a) === "" || value(b) === "") return (value(a) === "") - (value(b) === "");
    return direction * compare(value(a), value(b));
  });
  body.append(...rows);
}

headings.forEach((heading, column) => {
  heading.querySelector("button").addEventListener("click", () => sortBy(column));
});

const text = document.getElementById("filter-text");
const architecture = document.getElementById("filter-architecture");
const method = document.getElementById("filter-method");

function filter() {
  for (const row of rows) {
    row.hidden = !(
      row.cells[0].dataset.value.toLowerCase().includes(text.value.trim().toLowerCase()) &&
      (architecture.value === "" || row.dataset.architecture === architecture.value) &&
      (method.value === "" || row.dataset.method === method.value)
    );
  }
  const shown = rows.filter((row) => !row.hidden).length;
  document.getElementById("shown").textContent = `${shown} of ${rows.length} cells`;
  document.getElementById("none-shown").hidden = shown > 0;
}

const filters = document.getElementById("filters");
filters.addEventListener("input", filter);
// Not every browser says "input" of a select.
filters.addEventListener("change", filter);
filters.addEventListener("submit", (event) => event.preventDefault());
// A browser keeps what was typed when a page is loaded again.
filter();

// The charts.
const charts = [...document.querySelectorAll("figure")].map((figure) => {
  const specification = JSON.parse(figure.querySelector(".specification").textContent);
  return vegaEmbed(figure.querySelector(".chart"), specification, { actions: false, renderer: "svg" });
});
Promise.all(charts).then(
  () => { document.body.dataset.charts = "drawn"; },
  (error) => { document.body.dataset.charts = "failed"; throw error; },
);
