// The page is complete without this: it adds a switch of the colours, files to take away, a filter.
"use strict";
const root = document.documentElement;
const find = (selector, inside = document) => [...inside.querySelectorAll(selector)];

// Colours: as the reader's system has them, light, dark.
const themes = ["auto", "light", "dark"];
const button = document.getElementById("theme");
function show(theme) {
  if (theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = theme;
  button.textContent = `Colours: ${theme}`;
}
function remembered() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}
let theme = themes.includes(remembered()) ? remembered() : "auto";
show(theme);
button.addEventListener("click", () => {
  theme = themes[(themes.indexOf(theme) + 1) % themes.length];
  show(theme);
  try { localStorage.setItem("theme", theme); } catch { /* a file's page may have no storage */ }
});

// Files to take away.
function save(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function dataOf(name) {
  return document.getElementById(`csv-${name}`).textContent;
}
// All panels of a figure as one SVG in light colours, in rows of three.
function drawingOf(name) {
  const gap = 18;
  const figure = document.getElementById(`figure-${name}`);
  const panels = find(".chart:not(.key)", figure);
  const perRow = panels[0].viewBox.baseVal.width < 200 ? 6 : 3;
  const rows = find(".chart.key", figure).map((key) => [key]);
  for (let at = 0; at < panels.length; at += perRow) rows.push(panels.slice(at, at + perRow));
  let body = "", y = 0, wide = 0;
  for (const row of rows) {
    let x = 0, high = 0;
    for (const panel of row) {
      const box = panel.viewBox.baseVal;
      body += `<g transform="translate(${x} ${y})">${panel.innerHTML}</g>\n`;
      x += box.width + gap;
      high = Math.max(high, box.height);
    }
    wide = Math.max(wide, x);
    y += high + gap;
  }
  const style = document.getElementById("chart-style").textContent
    .replace(/var\(--(\w+)\)/g, (_, colour) => LIGHT[colour]);
  const size = `viewBox="-9 -9 ${wide} ${y}" width="${wide}" height="${y}"`;
  const paper = `<rect x="-9" y="-9" width="${wide}" height="${y}" fill="${LIGHT.paper}"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" class="chart" ${size}><style>${style}</style>\n` +
    `${paper}\n${body}</svg>\n`;
}
for (const each of find("[data-svg]")) {
  const name = each.dataset.svg;
  each.addEventListener("click", () => save(`${name}.svg`, "image/svg+xml", drawingOf(name)));
}
for (const each of find("[data-csv]")) {
  const name = each.dataset.csv;
  each.addEventListener("click", () => save(`${name}.csv`, "text/csv", dataOf(name)));
}

// The data of a figure as a table, made when it is asked for.
function fields(line) {
  return [...`,${line}`.matchAll(/,(?:"((?:[^"]|"")*)"|([^,]*))/g)]
    .map((found) => (found[1] === undefined ? found[2] : found[1].replaceAll('""', '"')));
}
function tableOf(text) {
  const table = document.createElement("table");
  text.trimEnd().split("\n").forEach((line, number) => {
    const row = (number ? table.tBodies[0] ?? table.createTBody() : table.createTHead()).insertRow();
    for (const field of fields(line)) {
      const cell = document.createElement(number ? "td" : "th");
      cell.textContent = field;
      row.append(cell);
    }
  });
  return table;
}
for (const each of find("details[data-table]")) {
  each.addEventListener("toggle", () => {
    const place = each.querySelector(".scroll");
    if (each.open && !place.firstChild) place.append(tableOf(dataOf(each.dataset.table)));
  });
}

// Runs whose line has all words of the filter.
for (const input of find("[data-filter]")) {
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of document.getElementById(input.dataset.filter).tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

// One view at a time: its name in the title, the reader's place at its heading.
const title = document.title;
function arrive() {
  const run = document.querySelector(".run:target");
  document.title = run ? `${run.id} · ${title}` : title;
  if (!run) return;
  window.scrollTo(0, 0);
  run.querySelector("h2").focus({ preventScroll: true });
}
window.addEventListener("hashchange", arrive);
arrive();

// Print what is folded away.
window.addEventListener("beforeprint", () => {
  for (const each of find("details.notes:not([open])")) {
    each.open = true;
    each.dataset.opened = "";
  }
});
window.addEventListener("afterprint", () => {
  for (const each of find("[data-opened]")) {
    each.open = false;
    delete each.dataset.opened;
  }
});
for (const each of find("[data-scripted]")) each.hidden = false;
